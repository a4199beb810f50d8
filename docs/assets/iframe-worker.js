// From file:// a browser starts no worker, and the search would stay empty: there, a hidden frame
// of the page's own runs the worker's script, with the few names that the script asks for.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.onmessage = null;
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.inner = frame.contentWindow;
      this.waiting = [];
      this.inner.document.open();
      this.inner.document.write("<!doctype html><html><body></body></html>");
      this.inner.document.close();
      this.inner.postMessage = (data) => this.tell(this, data);
      this.inner.importScripts = (...urls) => Promise.all(urls.map((one) => this.load(one)));
      this.load(url).then(() => {
        const waiting = this.waiting;
        this.waiting = null;
        waiting.forEach((data) => this.tell(this.inner, data));
      });
    }

    load(url) {
      return new Promise((done, failed) => {
        const script = this.inner.document.createElement("script");
        script.src = new URL(url, document.baseURI).href;
        script.onload = done;
        script.onerror = failed;
        this.inner.document.body.appendChild(script);
      });
    }

    tell(target, data) {
      const message = new MessageEvent("message", { data: structuredClone(data) });
      setTimeout(() => {
        target.dispatchEvent(message);
        if (target === this && this.onmessage) this.onmessage(message);
      });
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.tell(this.inner, data);
    }

    terminate() {
      this.inner.frameElement.remove();
    }
  };
}
