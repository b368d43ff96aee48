// What assimp, by which many programs read glTF, makes of a .glb: names of the morph targets, then where all
// vertices are at the given seconds, for compare.py.
//
//   c++ -std=c++17 -O2 examples/readers/positions.cpp -lassimp -o positions     (Debian: libassimp-dev)
//   ./positions talk.glb 0.02 2.02 > positions.txt

#include <assimp/postprocess.h>
#include <assimp/scene.h>

#include <algorithm>
#include <assimp/Importer.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

// Key before `time`, its successor, and how far between them `time` is.
template <class Key>
struct Between {
  const Key *from, *to;
  double share;
};

template <class Key>
Between<Key> between(const Key* keys, unsigned count, double time) {
  const Key* after = std::find_if(keys, keys + count, [&](const Key& key) { return key.mTime > time; });
  if (after == keys) return {keys, keys, 0.0};
  if (after == keys + count) return {after - 1, after - 1, 0.0};
  return {after - 1, after, (time - after[-1].mTime) / (after->mTime - after[-1].mTime)};
}

aiMatrix4x4 placed(const aiNode& node, const aiAnimation& take, double time) {
  for (unsigned i = 0; i < take.mNumChannels; ++i) {
    const aiNodeAnim& moves = *take.mChannels[i];
    if (moves.mNodeName != node.mName) continue;
    const auto at = between(moves.mPositionKeys, moves.mNumPositionKeys, time);
    const auto turn = between(moves.mRotationKeys, moves.mNumRotationKeys, time);
    aiQuaternion rotation;
    aiQuaternion::Interpolate(rotation, turn.from->mValue, turn.to->mValue, static_cast<float>(turn.share));
    const aiVector3D step = at.to->mValue - at.from->mValue;
    return {moves.mScalingKeys[0].mValue, rotation, at.from->mValue + step * static_cast<float>(at.share)};
  }
  return node.mTransformation;
}

std::vector<double> weights(const aiNode& node, const aiMesh& mesh, const aiAnimation& take, double time) {
  std::vector<double> found(mesh.mNumAnimMeshes, 0.0);
  for (unsigned i = 0; i < take.mNumMorphMeshChannels; ++i) {
    const aiMeshMorphAnim& moves = *take.mMorphMeshChannels[i];
    if (moves.mName != node.mName) continue;
    const auto key = between(moves.mKeys, moves.mNumKeys, time);
    for (unsigned k = 0; k < key.from->mNumValuesAndWeights; ++k) {
      const double a = key.from->mWeights[k], b = key.to->mWeights[k];
      found.at(key.from->mValues[k]) = a + (b - a) * key.share;
    }
  }
  return found;
}

void show(const aiScene& scene, const aiNode& node, const aiMatrix4x4& above, double time) {
  const aiAnimation& take = *scene.mAnimations[0];
  const aiMatrix4x4 place = above * placed(node, take, time);
  for (unsigned number = 0; number < node.mNumMeshes; ++number) {
    const aiMesh& mesh = *scene.mMeshes[node.mMeshes[number]];
    const std::vector<double> shares = weights(node, mesh, take, time);
    for (unsigned i = 0; i < mesh.mNumVertices; ++i) {
      aiVector3D sum = mesh.mVertices[i];
      for (unsigned k = 0; k < mesh.mNumAnimMeshes; ++k)
        sum += (mesh.mAnimMeshes[k]->mVertices[i] - mesh.mVertices[i]) * static_cast<float>(shares[k]);
      sum = place * sum;
      std::printf("%.7f %.7f %.7f\n", sum.x, sum.y, sum.z);
    }
  }
  for (unsigned i = 0; i < node.mNumChildren; ++i) show(scene, *node.mChildren[i], place, time);
}

}  // namespace

int main(int count, char** words) {
  if (count < 3) return std::fprintf(stderr, "usage: positions talk.glb SECONDS...\n"), 2;
  Assimp::Importer importer;
  const aiScene* scene = importer.ReadFile(words[1], 0);  // no post-processing: vertices as they are
  if (!scene || !scene->mNumAnimations) {
    return std::fprintf(stderr, "%s: %s\n", words[1], scene ? "no animation" : importer.GetErrorString()), 1;
  }
  const aiAnimation& take = *scene->mAnimations[0];
  std::printf("animation %s, %u nodes and %u meshes move\n", take.mName.C_Str(), take.mNumChannels,
              take.mNumMorphMeshChannels);
  // Eyes, which have no shapes, may come first.
  const auto has_shapes = [](const aiMesh* mesh) { return mesh->mNumAnimMeshes > 0; };
  const auto end = scene->mMeshes + scene->mNumMeshes, face = std::find_if(scene->mMeshes, end, has_shapes);
  for (unsigned k = 0; face != end && k < (*face)->mNumAnimMeshes; ++k)
    std::printf("shape %s\n", (*face)->mAnimMeshes[k]->mName.C_Str());
  const double ticks = take.mTicksPerSecond > 0.0 ? take.mTicksPerSecond : 1000.0;
  for (int i = 2; i < count; ++i) {
    std::printf("frame %s\n", words[i]);
    show(*scene, *scene->mRootNode, {}, std::atof(words[i]) * ticks);
  }
}
