// What the C library gives, whatever the system: arrays as files of raw numbers, statuses and messages as lines.
//   probe LIST OUT
// LIST is a file of UTF-8 lines, for arguments are in another encoding on Windows: a model's folder, a head's, a file of
// mono float32 at 16 kHz, then any number of folders that are no models. OUT, a folder, takes NAME.f32 and NAME.i32.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <facetalk.hpp>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace {

std::string out;

void write(const std::string& name, const void* values, size_t bytes) {
  std::ofstream file(out + "/" + name, std::ios::binary);
  file.write(static_cast<const char*>(values), static_cast<std::streamsize>(bytes));
}

void keep(const std::string& name, const float* values, size_t count) {
  write(name + ".f32", values, 4 * count);
}

void keep(const std::string& name, const int32_t* values, size_t count) {
  write(name + ".i32", values, 4 * count);
}

void keep(const std::string& name, const std::vector<float>& values) {
  keep(name, values.data(), values.size());
}

void keep(const std::string& name, const facetalk_mesh* mesh) {
  keep(name + "-vertices", facetalk_mesh_vertices(mesh),
       3 * static_cast<size_t>(facetalk_mesh_vertex_count(mesh)));
  keep(name + "-faces", facetalk_mesh_faces(mesh), 3 * static_cast<size_t>(facetalk_mesh_face_count(mesh)));
}

void say(const char* what, facetalk_status status) {
  std::printf("%s: %d %s\n", what, static_cast<int>(status),
              status == FACETALK_OK ? "" : facetalk_last_error());
}

// Pushes pieces of odd sizes; gives all frames.
facetalk::Frames heard(facetalk::Stream& stream, const std::vector<float>& sound, bool with_pose) {
  facetalk::Frames all;
  const auto take = [&] {
    const facetalk::Frames some = stream.pull_frames(with_pose);
    all.curves.insert(all.curves.end(), some.curves.begin(), some.curves.end());
    all.tongue.insert(all.tongue.end(), some.tongue.begin(), some.tongue.end());
    all.pose.insert(all.pose.end(), some.pose.begin(), some.pose.end());
  };
  for (size_t at = 0, piece = 1; at < sound.size(); at += piece, piece = piece % 997 + 331) {
    stream.push(sound.data() + at, std::min(piece, sound.size() - at));
    take();
  }
  stream.finish();
  take();
  return all;
}

void speech(const facetalk::Model& model, const std::vector<float>& sound) {
  facetalk_stream_options options = facetalk::default_options();
  facetalk::Stream live(model, options);
  facetalk_style style = facetalk::default_style();
  style.smile = 0.4;
  style.blink_rate = 2.0;
  live.set_style(style);
  const facetalk::Frames frames = heard(live, sound, true);
  keep("live", frames.curves);
  keep("tongue", frames.tongue);
  keep("pose", frames.pose);
  options.look_ahead_s = INFINITY;
  options.sample_rate = 22050;  // the same numbers, slower
  facetalk::Stream whole(model, options);
  const facetalk::Frames others = heard(whole, sound, false);
  keep("whole", others.curves);

  const facetalk::Rig rig(model);
  std::vector<float> positions(3 * rig.vertices()), normals(positions.size());
  const size_t middle = frames.curves.size() / model.curves().size() / 2;
  rig.pose_with_tongue(frames.curves.data() + middle * model.curves().size(),
                       frames.tongue.data() + middle * rig.tongue(), positions.data(), normals.data());
  keep("positions", positions);
  keep("normals", normals);
  keep("rig-faces", rig.face_data(), 3 * rig.faces());
  std::vector<float> noise(64 * 16);
  facetalk::check(facetalk_frame_noise(7, 1, 3, 64, 16, noise.data()));
  keep("noise", noise);
}

void surfaces(const char* head) {
  constexpr int kSize = 96;
  std::vector<float> volume;
  for (int i = 0; i < kSize * kSize * kSize; ++i) {
    const float x = static_cast<float>(i / (kSize * kSize) - 47),
                y = static_cast<float>(i / kSize % kSize - 45);
    const float z = static_cast<float>(i % kSize - 50);
    volume.push_back(x * x + 2 * y * y + 0.5f * z * z - 0.02f * x * y * z - 900.0f);
  }
  facetalk_mesh* mesh = nullptr;
  facetalk::check(facetalk_marching_cubes(volume.data(), kSize, kSize, kSize, 0.0f, &mesh));
  keep("cubes", mesh);
  facetalk_mesh_free(mesh);
  facetalk_field* field = nullptr;
  facetalk::check(facetalk_field_load(head, &field));
  facetalk::check(facetalk_field_bind(field, nullptr, 0));
  const float box[6] = {-0.55f, -0.5f, -0.95f, 0.55f, 0.75f, 0.4f};
  std::vector<float> code(static_cast<size_t>(facetalk_field_expression_count(field)));
  for (size_t i = 0; i < code.size(); ++i) code[i] = 0.1f * static_cast<float>(i % 5) - 0.2f;
  const auto count = static_cast<int32_t>(code.size());
  facetalk::check(facetalk_field_extract(field, code.data(), count, 48, box, 0.0f, &mesh));
  keep("field", mesh);
  std::vector<float> distances(static_cast<size_t>(facetalk_mesh_vertex_count(mesh)));
  facetalk::check(facetalk_field_query(field, nullptr, 0, facetalk_mesh_vertices(mesh),
                                       facetalk_mesh_vertex_count(mesh), distances.data()));
  keep("distances", distances);
  facetalk_mesh_free(mesh);
  say("resolution 1", facetalk_field_extract(field, nullptr, 0, 1, box, 0.0f, &mesh));
  facetalk_field_free(field);
}

}  // namespace

int main(int, char** words) {
  std::vector<std::string> lines;
  std::ifstream list(words[1], std::ios::binary);
  for (std::string line; std::getline(list, line);) lines.push_back(line);
  out = words[2];
  std::ifstream file(lines.at(2), std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<float> sound(bytes.size() / sizeof(float));
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(sound.data()));
  std::printf("%s\n", facetalk_version());
  try {
    facetalk::check(facetalk_set_threads(3));
    const facetalk::Model model(lines.at(0));
    for (const std::string& name : model.curves()) std::printf("%s\n", name.c_str());
    speech(model, sound);
    surfaces(lines.at(1).c_str());
    // In a thread of its own, which has an error of its own and then ends.
    std::thread([&] { say("another thread", facetalk_stream_create(nullptr, nullptr, nullptr)); }).join();
    std::printf("here: '%s'\n", facetalk_last_error());
    facetalk::Stream stream(model);
    const float bad = NAN;
    say("no stream", facetalk_stream_push(nullptr, &bad, 1));
    try {
      stream.push(&bad, 1);
    } catch (const facetalk::Error& error) {
      say("thrown", error.status);
    }
  } catch (const facetalk::Error& error) {
    say("failed", error.status);
    return 1;
  }
  for (size_t i = 3; i < lines.size(); ++i) {
    facetalk_model* model = nullptr;
    say("model", facetalk_model_load(lines[i].c_str(), &model));
    if (model != nullptr) return 1;
  }
  return 0;
}
