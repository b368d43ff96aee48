// The C library's packing of networks for the field's kernels, for a test that holds Python's to it.
#include "core/field_pack.cpp"
#include "cuda/field/field_mlp_wgmma.cu"
#include "cuda/head/pack.cu"
#include "cuda/head/workplace.cu"

using namespace facetalk;

namespace {

template <size_t N>
TensorView view_of(const float* data, const int64_t (&shape)[N]) {
  TensorView view;
  view.data = const_cast<float*>(data);
  view.rank = static_cast<int>(N);
  std::copy(shape, shape + N, view.shape.begin());
  return view;
}

}  // namespace

extern "C" int64_t pack_chunk_tiles() { return cuda::kFieldChunkTiles; }

extern "C" int64_t pack_wgmma_columns(int64_t outputs) {
  return cuda::field_wgmma_columns(static_cast<int>(outputs));
}

// An identity's network of `sets` members, the last of which is the one without an anchor. outputs: (layers);
// reads: (layers) 1 where it reads coordinates; values: layer by layer (sets, outputs, hidden), where there are
// any, (sets, outputs, coords), where it reads them, and the biases (sets, outputs). numbers: chunks, bias_count,
// coord_count, weight_count, then hidden, outputs, bias, coords, weights of every layer. Elements of `weights` are
// of the precision; what was not asked room for is not written.
extern "C" int pack_layers(int64_t layers, int64_t sets, int64_t coords, const int64_t* outputs,
                           const int64_t* reads, const float* values, int64_t panel, int64_t precision,
                           int64_t staged, int64_t* numbers, float* coord_weights, int64_t coord_room,
                           uint8_t* weights, int64_t weight_room, float* biases, int64_t bias_room) {
  FieldSource source;
  for (int64_t l = 0; l < layers; ++l) {
    FieldLayerSource layer;
    if (l > 0) {
      layer.hidden = view_of(values, {sets, outputs[l], outputs[l - 1]});
      values += layer.hidden.size();
    }
    if (reads[l]) {
      layer.coords = view_of(values, {sets, outputs[l], coords});
      values += layer.coords.size();
    }
    source.identity.push_back(layer);
    source.identity_bias.push_back(view_of(values, {sets, outputs[l]}));
    values += sets * outputs[l];
  }
  const std::vector<float> anchors(static_cast<size_t>(3 * (sets - 1)));
  source.anchors = view_of(anchors.data(), {sets - 1, 3});
  for (int set = 0; set < sets; ++set) source.member_set.push_back(set);
  source.mirror.assign(static_cast<size_t>(sets), 1.0f);
  const PackedField field(source, static_cast<int>(panel));
  const FieldMlp& from = field.model().identity;
  cuda::Workplace place;
  // A staged network has one set, whose members would share it.
  const cuda::PackedNetwork packed =
      cuda::pack_network(from, staged ? 1 : static_cast<int>(sets),
                         static_cast<cuda::FieldPrecision>(precision), staged != 0, place);
  const cuda::FieldDeviceMlp& mlp = packed.mlp;
  for (int64_t number :
       {int64_t{mlp.chunks}, int64_t{mlp.bias_count}, int64_t{mlp.coord_count}, mlp.weight_count})
    *numbers++ = number;
  for (int l = 0; l < mlp.layers; ++l) {
    const cuda::FieldDeviceLayer& layer = mlp.layer[l];
    for (int64_t number : {int64_t{layer.hidden}, int64_t{layer.outputs}, int64_t{layer.bias},
                           int64_t{layer.coords}, layer.weights})
      *numbers++ = number;
  }
  const int64_t kept = staged ? 1 : sets, element = precision == 0 ? 4 : 2;
  if (kept * mlp.coord_count <= coord_room)
    std::copy_n(mlp.coord_weights, kept * mlp.coord_count, coord_weights);
  if (kept * mlp.weight_count * element <= weight_room)
    std::copy_n(static_cast<const uint8_t*>(mlp.weights), kept * mlp.weight_count * element, weights);
  const std::vector<float> rows = cuda::pack_biases(from, mlp, sets, field.model().member_bias);
  if (static_cast<int64_t>(rows.size()) <= bias_room) std::copy(rows.begin(), rows.end(), biases);
  return 0;
}
