// Runs beside the audio thread: gathers a tenth of a second of the first channel, and hands it over.
class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(Math.round(sampleRate / 10));
    this.filled = 0;
    this.open = true;
    this.port.onmessage = () => {
      this.hand(this.piece.slice(0, this.filled));
      this.open = false;
      this.port.postMessage(null);
    };
  }

  process([[channel]]) {
    for (let from = 0; this.open && channel && from < channel.length;) {
      const count = Math.min(channel.length - from, this.piece.length - this.filled);
      this.piece.set(channel.subarray(from, from + count), this.filled);
      this.filled += count;
      from += count;
      if (this.filled === this.piece.length) {
        this.hand(this.piece.slice());
        this.filled = 0;
      }
    }
    return this.open;
  }

  hand(samples) {
    if (samples.length) this.port.postMessage(samples.buffer, [samples.buffer]);
  }
}

registerProcessor("microphone", Microphone);
