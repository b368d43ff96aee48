// The marching-cubes kernels on the host, beside the CPU's table.
#include "../../csrc/core/marching_cubes_table.cpp"
#include "cuda/marching_cubes/marching_cubes.cu"

namespace fc = facetalk::cuda;

namespace {

fc::McProblem problem_of(const float* samples, const int32_t* bricks, const void* cases, const int64_t* shape,
                         float level, const double* frame) {
  fc::McProblem problem;
  problem.samples = samples;
  problem.bricks = bricks;
  problem.cases = cases;
  problem.frames = shape[0];
  problem.nx = shape[1];
  problem.ny = shape[2];
  problem.nz = shape[3];
  problem.level = level;
  for (int a = 0; a < 3; ++a) {
    problem.origin[a] = frame[a];
    problem.step[a] = frame[3 + a];
  }
  return problem;
}

template <typename Work>
int status_of(Work work) {
  try {
    work();
    return 0;
  } catch (const fc::CudaError& error) {
    return error.status();
  } catch (const std::exception& error) {
    facetalk::emulate::machine.error = error.what();
    return 1;
  }
}

}  // namespace

extern "C" {
int64_t test_cases_bytes() { return static_cast<int64_t>(fc::mc_cases_bytes()); }
int test_write_cases(void* to) {
  return status_of([&] { fc::mc_write_cases(to); });
}
int64_t test_workspace_bytes(const int64_t* shape) {
  const double frame[6] = {0, 0, 0, 1, 1, 1};
  int64_t bytes = -1;
  status_of([&] {
    bytes =
        static_cast<int64_t>(fc::mc_workspace_bytes(problem_of(nullptr, nullptr, nullptr, shape, 0, frame)));
  });
  return bytes;
}
int test_count(const float* samples, const int32_t* bricks, const void* cases, const int64_t* shape,
               float level, const double* frame, void* workspace, int64_t* header) {
  return status_of([&] {
    fc::mc_count(problem_of(samples, bricks, cases, shape, level, frame), workspace, header, nullptr);
  });
}
int test_emit(const float* samples, const int32_t* bricks, const void* cases, const int64_t* shape,
              float level, const double* frame, void* workspace, float* vertices, float* normals,
              int32_t* faces, int64_t vertex_room, int64_t face_room) {
  return status_of([&] {
    fc::mc_emit(problem_of(samples, bricks, cases, shape, level, frame), workspace, vertices, normals, faces,
                vertex_room, face_room, nullptr);
  });
}
}
