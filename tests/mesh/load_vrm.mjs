// Loads a .vrm by three-vrm and prints what it found, with the weights that each expression gives alone.
// node load_vrm.mjs FOLDER_WITH_NODE_MODULES talk.vrm

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [, , folder, file] = process.argv;
globalThis.self = globalThis;
const modules = path.join(folder, "node_modules");
const load = (name) => import(pathToFileURL(path.join(modules, name)));
const { GLTFLoader } = await load("three/examples/jsm/loaders/GLTFLoader.js");
const { VRMLoaderPlugin } = await load("@pixiv/three-vrm/lib/three-vrm.module.js");
const data = fs.readFileSync(file);
const loader = new GLTFLoader();
loader.register((parser) => new VRMLoaderPlugin(parser));
const { userData: { vrm } } = await loader.parseAsync(data.buffer.slice(data.byteOffset, data.byteOffset + data.length), "");
let face;
vrm.scene.traverse((part) => { if (part.morphTargetInfluences && !face) face = part; });
const found = {};
for (const { expressionName } of vrm.expressionManager.expressions) {
  vrm.expressionManager.resetValues();
  vrm.expressionManager.setValue(expressionName, 1);
  vrm.expressionManager.update();
  found[expressionName] = Object.fromEntries(
    Object.entries(face.morphTargetDictionary).filter(([, i]) => face.morphTargetInfluences[i] > 0).map(([name, i]) => [name, face.morphTargetInfluences[i]]),
  );
}
vrm.expressionManager.resetValues();
vrm.scene.updateMatrixWorld(true);
vrm.lookAt.applier.applyYawPitch(10, -5); // to its left, and up
vrm.humanoid.update();
const eyes = ["leftEye", "rightEye"].map((name) => vrm.humanoid.getRawBoneNode(name)?.quaternion.toArray());
const look = { kind: vrm.lookAt.applier.constructor.type, eyes };
console.log(JSON.stringify({ look, version: vrm.meta.metaVersion, bones: Object.keys(vrm.humanoid.humanBones), found }));
