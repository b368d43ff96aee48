#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>

#include <limits>

#include "core/platform/files.h"

namespace facetalk::platform {
namespace {

// The functions without W take names in the machine's code page, which lacks most letters. Empty, which names no file,
// for what is no UTF-8.
std::wstring wide(const std::string& path) {
  const auto count = static_cast<int>(path.size());
  const int units = ::MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path.c_str(), count, nullptr, 0);
  std::wstring out(static_cast<size_t>(units), L'\0');
  if (units > 0) ::MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path.c_str(), count, out.data(), units);
  return out;
}

DWORD attributes(const std::string& path) { return ::GetFileAttributesW(wide(path).c_str()); }

}  // namespace

bool exists(const std::string& path) { return attributes(path) != INVALID_FILE_ATTRIBUTES; }

bool is_folder(const std::string& path) {
  const DWORD found = attributes(path);
  return found != INVALID_FILE_ATTRIBUTES && (found & FILE_ATTRIBUTE_DIRECTORY) != 0;
}

std::FILE* open_to_read(const std::string& path) { return ::_wfopen(wide(path).c_str(), L"rb"); }

MappedFile::MappedFile(const std::string& path) {
  // Others may do with the file what they may elsewhere; Windows itself forbids to cut it short while it is mapped.
  const HANDLE file =
      ::CreateFileW(wide(path).c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                    nullptr, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (file == INVALID_HANDLE_VALUE) {
    is_open_ = is_folder(path);  // which open() opens elsewhere
    return;
  }
  is_open_ = true;
  LARGE_INTEGER size{};
  if (::GetFileSizeEx(file, &size) && size.QuadPart > 0 &&
      static_cast<unsigned long long>(size.QuadPart) <= std::numeric_limits<size_t>::max()) {
    size_ = static_cast<size_t>(size.QuadPart);
    // The view keeps the file; neither handle is needed any longer.
    if (const HANDLE section = ::CreateFileMappingW(file, nullptr, PAGE_READONLY, 0, 0, nullptr)) {
      data_ = static_cast<const unsigned char*>(::MapViewOfFile(section, FILE_MAP_READ, 0, 0, 0));
      ::CloseHandle(section);
    }
  }
  ::CloseHandle(file);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::UnmapViewOfFile(data_);
}

}  // namespace facetalk::platform
