// Files by their names in the C interface, which are UTF-8 on every system.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>

namespace facetalk::platform {

// Whether there is anything of this name.
bool exists(const std::string& path);

bool is_folder(const std::string& path);

// To be read as it is, byte for byte; null where there is no such file, or it cannot be read. Closed by std::fclose.
std::FILE* open_to_read(const std::string& path);

// A file as memory that is only read, for as long as the object lives.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // False: no such file, or it cannot be read.
  bool is_open() const { return is_open_; }

  // Null where there is nothing to map: an empty file, a folder, a pipe.
  const unsigned char* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  bool is_open_ = false;
  const unsigned char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace facetalk::platform
