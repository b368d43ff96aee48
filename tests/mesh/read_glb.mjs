// Has a reader play a .glb: writes where all vertices are at the given times, prints names and counts.
// node read_glb.mjs three|babylon FOLDER_WITH_NODE_MODULES talk.glb positions.f32 SECONDS...

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [, , reader, folder, file, out, ...times] = process.argv;
const load = (name) => import(pathToFileURL(path.join(folder, "node_modules", name)));
const data = new Uint8Array(fs.readFileSync(file));
globalThis.self = globalThis;

async function three() {
  const { AnimationMixer, LoopOnce, Vector3 } = await load("three/build/three.module.js");
  const { GLTFLoader } = await load("three/examples/jsm/loaders/GLTFLoader.js");
  const { scene, animations } = await new GLTFLoader().parseAsync(data.buffer.slice(0), "");
  const mixer = new AnimationMixer(scene);
  const action = mixer.clipAction(animations[0]).setLoop(LoopOnce);  // or the last key would be the first again
  action.clampWhenFinished = true;
  action.play();
  const parts = [];
  scene.traverse((part) => part.isMesh && parts.push(part));
  const positions = (seconds) => {
    mixer.setTime(seconds);
    scene.updateMatrixWorld(true);
    const place = new Vector3();
    return parts.flatMap((part) => Array.from({ length: part.geometry.attributes.position.count }, (_, i) =>
      part.getVertexPosition(i, place).applyMatrix4(part.matrixWorld).toArray()).flat());
  };
  return { names: Object.keys(parts[0].morphTargetDictionary), vertices: parts.map((part) => part.geometry.attributes.position.count), positions };
}

async function babylon() {
  const { NullEngine } = await load("@babylonjs/core/Engines/nullEngine.js");
  const { Scene } = await load("@babylonjs/core/scene.js");
  const { Vector3 } = await load("@babylonjs/core/Maths/math.vector.js");
  const { ImportMeshAsync } = await load("@babylonjs/core/Loading/sceneLoader.js");
  await load("@babylonjs/core/Animations/animatable.js");
  await load("@babylonjs/loaders/glTF/2.0/index.js");
  const scene = new Scene(new NullEngine());
  scene.useRightHandedSystem = true;
  const { meshes, animationGroups: [talk] } = await ImportMeshAsync(data, scene, { pluginExtension: ".glb" });
  const parts = meshes.filter((mesh) => mesh.getTotalVertices() > 0);
  talk.start(false);
  talk.pause();
  const positions = (seconds) => {
    talk.goToFrame(seconds * 60);
    scene.transformNodes.concat(meshes).forEach((node) => node.computeWorldMatrix(true));
    return parts.flatMap((part) => {
      const manager = part.morphTargetManager, base = part.getVerticesData("position"), sum = Float64Array.from(base);
      for (let target = 0; target < (manager?.numTargets ?? 0); target++) {
        const { influence } = manager.getTarget(target), moved = manager.getTarget(target).getPositions();
        if (influence) for (let i = 0; i < sum.length; i++) sum[i] += influence * (moved[i] - base[i]);
      }
      const world = part.computeWorldMatrix(true);
      return Array.from({ length: sum.length / 3 }, (_, i) => Vector3.TransformCoordinates(new Vector3(...sum.subarray(3 * i, 3 * i + 3)), world).asArray()).flat();
    });
  };
  const { morphTargetManager: manager } = parts[0];
  return { names: Array.from({ length: manager.numTargets }, (_, i) => manager.getTarget(i).name), vertices: parts.map((part) => part.getTotalVertices()), positions };
}

const { names, vertices, positions } = await { three, babylon }[reader]();
fs.writeFileSync(out, Buffer.from(Float32Array.from(times.flatMap((time) => positions(Number(time)))).buffer));
console.log(JSON.stringify({ names, vertices }));
