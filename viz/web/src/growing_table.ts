// A table of numbers that grows by rows, as those of a live episode do.

export class GrowingTable {
  private buffer = new Float32Array(0);
  private used = 0;

  constructor(readonly width: number) {}

  get length(): number {
    return this.used / this.width;
  }

  /** All values, row by row. The array is invalid after the next `append`. */
  get values(): Float32Array {
    return this.buffer.subarray(0, this.used);
  }

  get hasNumbers(): boolean {
    return this.values.some(Number.isFinite);
  }

  row(index: number): Float32Array {
    return this.buffer.subarray(index * this.width, (index + 1) * this.width);
  }

  at(index: number, column: number): number {
    return this.buffer[index * this.width + column];
  }

  append(values: ArrayLike<number>): void {
    const needed = this.used + values.length;
    if (needed > this.buffer.length) {
      // A recorded episode has a single part, so its buffer needs no spare room.
      const grown = new Float32Array(this.used ? 2 * needed : needed);
      grown.set(this.values);
      this.buffer = grown;
    }
    this.buffer.set(values, this.used);
    this.used = needed;
  }
}
