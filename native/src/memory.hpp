// Aligned memory, in huge pages where the system has them: weights are read once a frame from end to end.
#pragma once

#include <cstddef>
#include <cstring>
#include <utility>

namespace sottovoce {

// A block of bytes aligned to 64, all zeros at first; throws std::bad_alloc. It can be moved, not copied.
class Block {
 public:
  Block() = default;
  explicit Block(std::size_t bytes);
  ~Block();
  Block(Block&& other) noexcept { swap(other); }
  Block& operator=(Block&& other) noexcept {
    swap(other);
    return *this;
  }

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::size_t size() const { return bytes_; }

 private:
  void swap(Block& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(base_, other.base_);
    std::swap(mapped_, other.mapped_);
  }

  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  void* base_ = nullptr;    // of the mapping, if there is one
  std::size_t mapped_ = 0;  // its bytes; 0: from the allocator
};

// Scratch memory that only grows; what it held is lost when it does.
template <class T>
class Scratch {
 public:
  T* at_least(std::size_t count) {
    if (count * sizeof(T) > block_.size()) block_ = Block(count * sizeof(T));
    return block_.as<T>();
  }
  T* data() const { return block_.as<T>(); }

 private:
  Block block_;
};

}  // namespace sottovoce
