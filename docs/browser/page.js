// The page "In the browser": reads files, runs the detector and shows what it finds.

import {Detector, draw} from './detect.js';

const find = (id) => document.getElementById(id);
const state = {detector: null, image: null};

async function run(what, action) {
  find('status').textContent = what;
  try {
    await action();
  } catch (error) {
    find('status').textContent = `Error: ${error.message}`;
  }
}

async function show() {
  const {detector, image} = state;
  if (!detector || !image) {
    find('status').textContent = `There is no ${detector ? 'image' : 'detector'} yet: choose one.`;
    return;
  }
  const start = performance.now();
  const found = await detector.detect(image);
  const time = Math.round(performance.now() - start);
  if (image !== state.image) return; // another one was chosen meanwhile
  draw(find('picture'), image, found);
  const counts = {};
  for (const {name} of found) counts[name] = (counts[name] ?? 0) + 1;
  const names = Object.entries(counts).map(([name, count]) => `${count} ${name}`).join(', ');
  find('status').textContent =
    `${found.length} objects in ${time} ms${names ? `: ${names}` : ''}`;
  find('found').textContent = JSON.stringify(found);
}

async function useModel(bytes) {
  state.detector = await Detector.load(bytes);
  await show();
}

async function useImage(blob) {
  state.image = await createImageBitmap(blob);
  await show();
}

find('model').addEventListener('change', ({target}) =>
  run('Compiling the model ...', async () =>
    useModel(new Uint8Array(await target.files[0].arrayBuffer()))));
find('image').addEventListener('change', ({target}) =>
  run('Running ...', async () => useImage(target.files[0])));

async function download(address) {
  const response = await fetch(address);
  if (!response.ok) {
    throw new Error(`${address} cannot be loaded (${response.status}).`);
  }
  return response;
}

// What was chosen meanwhile is kept.
run('Loading the example ...', async () => {
  const image = await download(find('page').dataset.image);
  const bitmap = await createImageBitmap(await image.blob());
  state.image ??= bitmap;
  const model = await download(find('page').dataset.model);
  const detector = await Detector.load(new Uint8Array(await model.arrayBuffer()));
  state.detector ??= detector;
  await show();
});
