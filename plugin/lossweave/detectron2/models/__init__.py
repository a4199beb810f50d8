"""Networks that Detectron2 lacks."""
