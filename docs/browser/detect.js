// Runs a detector from `keras-spd export` in the browser, with LiteRT.js.

import {loadAndCompile, loadLiteRt, Tensor} from '@litertjs/core';

const WASM = 'https://cdn.jsdelivr.net/npm/@litertjs/core@2.5.3/wasm/';
const GRAY = 'rgb(114, 114, 114)';

/**
 * Reads the record that the exporter wrote: class names, image size and more.
 *
 * It is an uncompressed member, `keras_spd.json`, of the ZIP archive at the end of the file.
 */
export function readRecord(bytes) {
  const name = new TextEncoder().encode('keras_spd.json');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let start = bytes.length - 30; start >= 0; start--) {
    if (view.getUint32(start, true) !== 0x04034b50) continue; // a local file header
    const length = view.getUint16(start + 26, true);
    const path = bytes.subarray(start + 30, start + 30 + length);
    if (length !== name.length || !path.every((byte, index) => byte === name[index])) continue;
    const content = start + 30 + length + view.getUint16(start + 28, true);
    const size = view.getUint32(start + 22, true);
    return JSON.parse(new TextDecoder().decode(bytes.subarray(content, content + size)));
  }
  throw new Error('This is not a file from `keras-spd export`: it has no keras_spd.json.');
}

/** A detector: a compiled model and its record. */
export class Detector {
  /** Compiles the bytes of a TFLite file. */
  static async load(bytes) {
    const record = readRecord(bytes);
    const format = record.bounding_box_format;
    if (!format) throw new Error(`${record.name} is not a detector.`);
    if (format !== 'xyxy') throw new Error(`Boxes must be xyxy. ${record.name} has ${format}.`);
    Detector.runtime ??= loadLiteRt(WASM).catch((error) => {
      Detector.runtime = null; // the next call tries again
      throw error;
    });
    await Detector.runtime;
    return new Detector(await loadAndCompile(bytes, {accelerator: 'wasm'}), record);
  }

  constructor(model, record) {
    this.model = model;
    this.record = record;
  }

  /**
   * Finds objects in an image of any size.
   *
   * Returns a list of {box: [x1, y1, x2, y2] in pixels of the image, confidence, name}.
   */
  async detect(image) {
    const {pixels, scale, left, top} = this.letterbox(image);
    const [input] = this.model.getInputDetails();
    const values = input.dtype === 'float32' ? Float32Array.from(pixels) : pixels;
    const tensor = new Tensor(values, [1, ...this.record.image_size, 3]);
    const outputs = await this.model.run({[input.name]: tensor});
    const read = async (name) => (await outputs[name].data()).slice();
    const boxes = await read('boxes');
    const confidence = await read('confidence');
    const classes = await read('classes');
    const [count] = await read('num_detections');
    [tensor, ...Object.values(outputs)].forEach((one) => one.delete());
    const offsets = [left, top, left, top];
    const limits = [image.width, image.height, image.width, image.height];
    return Array.from({length: count}, (_, index) => ({
      box: offsets.map((offset, side) =>
        Math.min(Math.max((boxes[4 * index + side] - offset) / scale, 0), limits[side])),
      confidence: confidence[index],
      name: this.record.class_names?.[classes[index]] ?? String(classes[index]),
    }));
  }

  /** Scales an image to the size of the network's input, on grey, without changing its shape. */
  letterbox(image) {
    const [height, width] = this.record.image_size;
    const scale = Math.min(height / image.height, width / image.width);
    const left = (width - image.width * scale) / 2;
    const top = (height - image.height * scale) / 2;
    const context = new OffscreenCanvas(width, height).getContext('2d');
    context.fillStyle = GRAY;
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = 'high';
    context.drawImage(image, left, top, image.width * scale, image.height * scale);
    const rgba = context.getImageData(0, 0, width, height).data;
    const pixels = Uint8Array.from({length: (rgba.length / 4) * 3}, (_, index) =>
      rgba[Math.floor(index / 3) * 4 + (index % 3)]);
    return {pixels, scale, left, top};
  }
}

/** Draws an image and its boxes on a canvas. */
export function draw(canvas, image, found) {
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  context.lineWidth = Math.max(1, Math.max(image.width, image.height) / 400);
  const names = [...new Set(found.map(({name}) => name))].sort();
  for (const {box: [x1, y1, x2, y2], name} of found) {
    context.strokeStyle = `hsl(${(names.indexOf(name) * 222) % 360}, 90%, 40%)`;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
}
