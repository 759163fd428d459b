// A file's bytes, mapped and never copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace sottovoce {

class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // throws Error with the system's reason, without the file's name
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&&) = delete;

  std::span<const std::uint8_t> bytes() const { return {static_cast<const std::uint8_t*>(data_), size_}; }

  // These bytes were read: their pages may leave memory (reading them again brings them back).
  void forget(std::span<const std::uint8_t> bytes) const;

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace sottovoce
