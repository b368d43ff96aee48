// Body of marching_cubes_rows_<level>.cpp, which defines FACETALK_SIMD_NAMESPACE. No includes of the standard
// library with code in them: see the note on SIMD files in CMakeLists.txt.
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "cpu/marching_cubes/marching_cubes_rows.h"

namespace facetalk::cpu::FACETALK_SIMD_NAMESPACE {
namespace {

inline int count_bits(uint64_t word) { return __builtin_popcountll(word); }
inline int lowest_bit(uint64_t word) { return __builtin_ctzll(word); }

// 64 samples to one word. finite_bits collects anything that is NaN or infinite.
inline uint64_t pack_word(const float* v, float level, bool& finite) {
  uint64_t word = 0;
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  const __m512 threshold = _mm512_set1_ps(level);
  constexpr int kNanOrInf = 0x01 | 0x08 | 0x10 | 0x80;
  __mmask16 bad = 0;
  for (int block = 0; block < 4; ++block) {
    const __m512 x = _mm512_loadu_ps(v + 16 * block);
    bad |= _mm512_fpclass_ps_mask(x, kNanOrInf);
    word |= static_cast<uint64_t>(_mm512_cmp_ps_mask(x, threshold, _CMP_LT_OQ)) << (16 * block);
  }
  finite &= bad == 0;
#elif defined(__AVX2__)
  const __m256 threshold = _mm256_set1_ps(level);
  const __m256i exponent = _mm256_set1_epi32(0x7f800000);
  __m256i bad = _mm256_setzero_si256();
  for (int block = 0; block < 8; ++block) {
    const __m256 x = _mm256_loadu_ps(v + 8 * block);
    bad = _mm256_or_si256(bad,
                          _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_castps_si256(x), exponent), exponent));
    const unsigned mask = static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(x, threshold, _CMP_LT_OQ)));
    word |= static_cast<uint64_t>(mask) << (8 * block);
  }
  finite &= _mm256_testz_si256(bad, bad) != 0;
#elif defined(__SSE2__)
  const __m128 threshold = _mm_set1_ps(level);
  const __m128i exponent = _mm_set1_epi32(0x7f800000);
  __m128i bad = _mm_setzero_si128();
  for (int block = 0; block < 16; ++block) {
    const __m128 x = _mm_loadu_ps(v + 4 * block);
    bad = _mm_or_si128(bad, _mm_cmpeq_epi32(_mm_and_si128(_mm_castps_si128(x), exponent), exponent));
    const unsigned mask = static_cast<unsigned>(_mm_movemask_ps(_mm_cmplt_ps(x, threshold)));
    word |= static_cast<uint64_t>(mask) << (4 * block);
  }
  finite &= _mm_movemask_epi8(bad) == 0;
#else
  for (int k = 0; k < 64; ++k) {
    word |= static_cast<uint64_t>(v[k] < level) << k;
    finite &= v[k] - v[k] == 0.0f;
  }
#endif
  return word;
}

bool pack(const float* samples, int64_t n, float level, uint64_t* words) {
  bool finite = true;
  int64_t k = 0;
  for (; k + 64 <= n; k += 64) *words++ = pack_word(samples + k, level, finite);
  if (k < n) {
    uint64_t word = 0;
    for (int b = 0; k + b < n; ++b) {
      const float v = samples[k + b];
      word |= static_cast<uint64_t>(v < level) << b;
      finite &= v - v == 0.0f;
    }
    *words = word;
  }
  return finite;
}

// The word one sample further along z: bit k holds the sign of sample k + 1.
inline uint64_t shifted(const uint64_t* row, int64_t w, int64_t words) {
  return row[w] >> 1 | (w + 1 < words ? row[w + 1] << 63 : 0);
}

// Bits of word w that start an edge along z, i.e. k < nz - 1.
inline uint64_t cell_mask(int64_t w, int64_t nz) {
  const int64_t left = nz - 1 - 64 * w;
  return left >= 64 ? ~uint64_t{0} : left <= 0 ? 0 : (uint64_t{1} << left) - 1;
}

// Four rows of signs around a row of cells, [dx * 2 + dy], and the same one sample further along z.
struct Quad {
  uint64_t near[4], far[4];

  Quad(const uint64_t* const rows[4], int64_t w, int64_t words) {
    for (int r = 0; r < 4; ++r) {
      near[r] = rows[r][w];
      far[r] = shifted(rows[r], w, words);
    }
  }
  // Cells whose eight corners are neither all inside nor all outside.
  uint64_t active(uint64_t mask) const {
    const uint64_t any = near[0] | near[1] | near[2] | near[3] | far[0] | far[1] | far[2] | far[3];
    const uint64_t all = near[0] & near[1] & near[2] & near[3] & far[0] & far[1] & far[2] & far[3];
    return any & ~all & mask;
  }
  int signs(int b) const {
    int value = 0;
    for (int r = 0; r < 4; ++r)
      value |= static_cast<int>((near[r] >> b & 1) << (2 * r) | (far[r] >> b & 1) << (2 * r + 1));
    return value;
  }
};

inline float sample_at(const McGrid& g, int64_t i, int64_t j, int64_t k) {
  if (g.table == nullptr) return g.samples[(i * g.ny + j) * g.nz + k];
  const int64_t brick = g.table[((i >> 3) * g.bricks_y + (j >> 3)) * g.bricks_z + (k >> 3)];
  return brick < 0 ? g.level : g.samples[brick << 9 | (i & 7) << 6 | (j & 7) << 3 | (k & 7)];
}

inline void rows_around(const McGrid& g, int64_t i, int64_t j, const uint64_t* rows[4]) {
  for (int r = 0; r < 4; ++r) rows[r] = g.signs + ((i + (r >> 1)) * g.ny + j + (r & 1)) * g.words;
}

// The variant that cuts cell (i, j, k): its table entry, and for faces with alternating signs the asymptotic
// decider.
inline const CellVariant& variant_of(const McGrid& g, int64_t i, int64_t j, int64_t k, int signs) {
  int index = g.first_variant[signs];
  const unsigned faces = g.ambiguous[signs];
  if (faces != 0) {
    int position = 0;
    for (int f = 0; f < 6; ++f) {
      if (!(faces >> f & 1)) continue;
      double value[4];
      for (int c = 0; c < 4; ++c) {
        const int corner = g.face_corners[f][c];
        const float sample = sample_at(g, i + (corner >> 2), j + (corner >> 1 & 1), k + (corner & 1));
        value[c] = static_cast<double>(sample) - static_cast<double>(g.level);
      }
      // The saddle of the bilinear interpolant is inside exactly when the inside corners' product is the
      // greater. Both cells of the face compute the same two products, whatever order they meet the corners
      // in.
      const double even = value[0] * value[2];
      const double odd = value[1] * value[3];
      const bool even_inside = signs >> g.face_corners[f][0] & 1;
      const bool joined = even_inside ? even > odd : odd > even;
      index += static_cast<int>(joined) << position++;
    }
  }
  return g.variants[index];
}

McRow count(const McGrid& g, int64_t i, int64_t j) {
  McRow row{0, 0, 0, 0, 0};
  const bool has_x = i + 1 < g.nx;
  const bool has_y = j + 1 < g.ny;
  const uint64_t* here = g.signs + (i * g.ny + j) * g.words;
  for (int64_t w = 0; w < g.words; ++w) {
    row.z += count_bits((here[w] ^ shifted(here, w, g.words)) & cell_mask(w, g.nz));
    if (has_y) row.y += count_bits(here[w] ^ here[g.words + w]);
    if (has_x) row.x += count_bits(here[w] ^ here[g.ny * g.words + w]);
  }
  if (!has_x || !has_y) return row;
  const uint64_t* rows[4];
  rows_around(g, i, j, rows);
  for (int64_t w = 0; w < g.words; ++w) {
    const Quad quad(rows, w, g.words);
    for (uint64_t left = quad.active(cell_mask(w, g.nz)); left != 0; left &= left - 1) {
      const int b = lowest_bit(left);
      const CellVariant& variant = variant_of(g, i, j, 64 * w + b, quad.signs(b));
      row.triangles += variant.triangles;
      row.centres += variant.centres;
    }
  }
  return row;
}

// The mean of the vertices around a cell's own vertex.
inline void place_centre(const McGrid& g, const CellVariant& variant, const int64_t ids[kCentre + 1],
                         float* values, bool unit) {
  double sum[3] = {0, 0, 0};
  int n = 0;
  for (int t = 0; t < variant.triangles; ++t) {
    const uint8_t* triangle = g.corners + variant.first + 3 * t;
    if (triangle[2] != kCentre) continue;
    for (int a = 0; a < 3; ++a) sum[a] += static_cast<double>(values[3 * ids[triangle[0]] + a]);
    ++n;
  }
  double scale = 1.0 / n;
  if (unit) {
    const double length = __builtin_sqrt(sum[0] * sum[0] + sum[1] * sum[1] + sum[2] * sum[2]);
    scale = length > 0 ? 1.0 / length : 0.0;
  }
  for (int a = 0; a < 3; ++a) values[3 * ids[kCentre] + a] = static_cast<float>(sum[a] * scale);
}

void emit_faces(const McGrid& g, int64_t i, int64_t j, const McRow* const bases[4], int32_t* faces,
                float* vertices, float* normals) {
  const uint64_t* rows[4];
  rows_around(g, i, j, rows);
  int64_t z[4] = {bases[0]->z, bases[1]->z, bases[2]->z, bases[3]->z};
  int64_t y[2] = {bases[0]->y, bases[2]->y};
  int64_t x[2] = {bases[0]->x, bases[1]->x};
  int64_t centre = bases[0]->centres;
  int32_t* out = faces + 3 * bases[0]->triangles;
  for (int64_t w = 0; w < g.words; ++w) {
    const Quad quad(rows, w, g.words);
    const uint64_t mask = cell_mask(w, g.nz);
    uint64_t left = quad.active(mask);
    if (left == 0) continue;  // then no edge of this word is cut that a later cell of the row could need
    const uint64_t cut_x[2] = {quad.near[0] ^ quad.near[2], quad.near[1] ^ quad.near[3]};
    const uint64_t cut_y[2] = {quad.near[0] ^ quad.near[1], quad.near[2] ^ quad.near[3]};
    uint64_t cut_z[4];
    for (int r = 0; r < 4; ++r) cut_z[r] = (quad.near[r] ^ quad.far[r]) & mask;
    for (; left != 0; left &= left - 1) {
      const int b = lowest_bit(left);
      const uint64_t below = (uint64_t{1} << b) - 1;
      int64_t ids[kCentre + 1];
      for (int r = 0; r < 4; ++r) ids[r] = z[r] + count_bits(cut_z[r] & below);
      for (int r = 0; r < 2; ++r) {
        ids[4 + 2 * r] = y[r] + count_bits(cut_y[r] & below);
        ids[5 + 2 * r] = ids[4 + 2 * r] + static_cast<int64_t>(cut_y[r] >> b & 1);
        ids[8 + 2 * r] = x[r] + count_bits(cut_x[r] & below);
        ids[9 + 2 * r] = ids[8 + 2 * r] + static_cast<int64_t>(cut_x[r] >> b & 1);
      }
      ids[kCentre] = centre;
      const CellVariant& variant = variant_of(g, i, j, 64 * w + b, quad.signs(b));
      const uint8_t* corner = g.corners + variant.first;
      for (int c = 0; c < 3 * variant.triangles; ++c) *out++ = static_cast<int32_t>(ids[*corner++]);
      if (variant.centres != 0) {
        place_centre(g, variant, ids, vertices, false);
        if (normals != nullptr) place_centre(g, variant, ids, normals, true);
        ++centre;
      }
    }
    for (int r = 0; r < 4; ++r) z[r] += count_bits(cut_z[r]);
    for (int r = 0; r < 2; ++r) {
      y[r] += count_bits(cut_y[r]);
      x[r] += count_bits(cut_x[r]);
    }
  }
}

}  // namespace

const McRowKernels kMcRows = {&pack, &count, &emit_faces};

}  // namespace facetalk::cpu::FACETALK_SIMD_NAMESPACE
