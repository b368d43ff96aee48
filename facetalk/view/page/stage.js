// The head on its stage: a glTF file, turned by the mouse, drawn only when something has changed.

import * as THREE from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";

const FAR = 40; // radii of the head that the camera may be away

export class Stage {
  #renderer; #scene; #camera; #controls; #root = null; #mixer = null; #actions = []; #faces = []; #eyes = []; #neck = null; #asked = false;

  constructor(canvas) {
    this.#renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true });
    this.#renderer.toneMapping = THREE.ACESFilmicToneMapping;
    this.#renderer.toneMappingExposure = 1.15;
    this.#scene = new THREE.Scene();
    this.#scene.add(new THREE.HemisphereLight(0xdfe8ff, 0x4a3a30, 0.9));
    for (const [x, y, z, power, color] of [[2.2, 1.8, 4, 2.2, 0xfff2e2], [-4, 0.5, 1.5, 0.8, 0xbcd4ff], [-2, 2, -4, 0.9, 0xffe8d8]]) {
      const lamp = new THREE.DirectionalLight(color, power);
      lamp.position.set(x, y, z);
      this.#scene.add(lamp);
    }
    this.#camera = new THREE.PerspectiveCamera(26, 1, 0.01, 100);
    this.#controls = new OrbitControls(this.#camera, canvas);
    this.#controls.enablePan = false;
    this.#controls.addEventListener("change", () => this.#draw());
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.#resize();
  }

  // Show a .glb, an ArrayBuffer; gives its notes, its length in seconds and the names of its morph targets.
  async open(data) {
    const file = await new GLTFLoader().parseAsync(data, "");
    if (this.#root) {
      this.#scene.remove(this.#root);
      this.#root.traverse(({ geometry, material }) => {
        geometry?.dispose();
        for (const picture of [material?.map, material?.normalMap, material?.roughnessMap]) picture?.dispose();
        material?.dispose?.();
      });
    }
    this.#root = file.scene;
    this.#scene.add(this.#root);
    this.#faces = [];
    this.#eyes = [];
    this.#root.traverse((part) => {
      if (part.morphTargetDictionary) this.#faces.push(part);
      if (part.userData.rotationVectors) this.#eyes.push({ part, vectors: part.userData.rotationVectors });
    });
    const neck = this.#root.getObjectByName("neck");
    this.#neck = neck ? { part: neck, rest: neck.position.clone() } : null;
    this.#mixer = file.animations.length ? new THREE.AnimationMixer(this.#root) : null;
    this.#actions = file.animations.map((clip) => this.#mixer.clipAction(clip));
    for (const action of this.#actions) {
      action.setLoop(THREE.LoopOnce);
      action.clampWhenFinished = true;
      action.play();
    }
    this.setTime(0);
    this.#frame();
    const notes = file.asset?.extras ?? {};
    const keys = Math.max(0, ...file.animations.map((clip) => clip.duration));
    const length = notes.fps > 0 && notes.frames > 0 ? notes.frames / notes.fps : keys;
    return { notes, length, names: Object.keys(this.#faces[0]?.morphTargetDictionary ?? {}) };
  }

  // Show the file's own animation at a time in seconds.
  setTime(seconds) {
    // An action that came to its end is paused, and would stay where it is.
    for (const action of this.#actions) action.paused = false;
    this.#mixer?.setTime(Math.max(0, seconds));
    this.#draw();
  }

  // Put the head where a quaternion and a translation in metres have it.
  place([x, y, z, w, ...shift]) {
    this.#neck?.part.quaternion.set(x, y, z, w);
    this.#neck?.part.position.copy(this.#neck.rest).add(new THREE.Vector3(...shift));
    this.#draw();
  }

  // Where it is: a quaternion, none of a head without a neck.
  turned() { return this.#neck?.part.quaternion.toArray() ?? []; }

  // Show a face by weights in the order of names: morph targets, and eyes that turn by the sum of weight times vector.
  show(names, weights) {
    for (const face of this.#faces) {
      names.forEach((name, i) => {
        const target = face.morphTargetDictionary[name];
        if (target !== undefined) face.morphTargetInfluences[target] = weights[i];
      });
    }
    for (const { part, vectors } of this.#eyes) {
      const turn = new THREE.Vector3();
      names.forEach((name, i) => { if (vectors[name]) turn.addScaledVector(new THREE.Vector3(...vectors[name]), weights[i]); });
      const angle = turn.length();
      part.quaternion.setFromAxisAngle(angle > 0 ? turn.divideScalar(angle) : turn, angle);
    }
    this.#draw();
  }

  // How the eyes are turned: quaternions, left and right; none of a head whose eyes do not.
  eyes() { return this.#eyes.map(({ part }) => part.quaternion.toArray()); }

  // Weights that are shown now, by name.
  weights() {
    const face = this.#faces[0];
    return face ? Object.fromEntries(Object.entries(face.morphTargetDictionary).map(([name, i]) => [name, face.morphTargetInfluences[i]])) : {};
  }

  #frame() {
    // At rest: three's own boxes hold all that morph targets could do at once.
    const box = new THREE.Box3(), part = new THREE.Box3();
    this.#root.updateMatrixWorld(true);
    this.#root.traverse(({ geometry, matrixWorld }) => {
      if (geometry) box.union(part.setFromBufferAttribute(geometry.attributes.position).applyMatrix4(matrixWorld));
    });
    const middle = box.getCenter(new THREE.Vector3());
    const size = box.getSize(new THREE.Vector3());
    const radius = Math.max(size.length() / 2, 1e-6);
    const away = (0.55 * Math.max(size.y, size.x / this.#camera.aspect)) / Math.tan(THREE.MathUtils.degToRad(this.#camera.fov / 2)) + size.z / 2;
    this.#controls.target.copy(middle);
    this.#camera.position.set(middle.x + 0.16 * away, middle.y + 0.04 * away, middle.z + 0.98 * away);
    this.#camera.near = radius / 100;
    this.#camera.far = radius * 2 * FAR;
    this.#controls.minDistance = radius / 4;
    this.#controls.maxDistance = radius * FAR;
    this.#camera.updateProjectionMatrix();
    this.#controls.update();
    this.#draw();
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.#renderer.domElement;
    if (!width || !height) return;
    this.#renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.#renderer.setSize(width, height, false);
    this.#camera.aspect = width / height;
    this.#camera.updateProjectionMatrix();
    this.#draw();
  }

  #draw() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#renderer.render(this.#scene, this.#camera);
    });
  }
}
