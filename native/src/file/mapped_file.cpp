#include "file/mapped_file.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.hpp"

namespace sottovoce {
namespace {

[[noreturn]] void refuse(int error) { throw Error("cannot be read: " + std::string(std::strerror(error))); }

struct Descriptor {
  int number;
  ~Descriptor() { ::close(number); }
};

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  // O_NONBLOCK: to open a pipe would wait for its writer; it is refused below.
  const int number = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (number < 0) refuse(errno);
  const Descriptor file{number};
  struct stat status;
  if (::fstat(number, &status) != 0) refuse(errno);
  if (S_ISDIR(status.st_mode)) refuse(EISDIR);
  if (!S_ISREG(status.st_mode)) throw Error("cannot be read: it is not a regular file");
  if (status.st_size == 0) return;  // an empty file cannot be mapped
  size_ = static_cast<std::size_t>(status.st_size);
  data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, number, 0);
  if (data_ == MAP_FAILED) {
    data_ = nullptr;
    refuse(errno);
  }
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(data_, size_);
}

void MappedFile::forget(std::span<const std::uint8_t> bytes) const {
  // Whole pages only: others hold neighbours too.
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<std::uintptr_t>(bytes.data());
  const std::uintptr_t start = (first + page - 1) / page * page, stop = (first + bytes.size()) / page * page;
  if (start < stop) ::madvise(reinterpret_cast<void*>(start), stop - start, MADV_DONTNEED);
}

}  // namespace sottovoce
