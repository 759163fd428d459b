#include "memory.hpp"

#include <cstdint>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sottovoce {
namespace {

constexpr std::size_t kAlignment = 64;

#if defined(__linux__)

constexpr std::size_t kHugePage = std::size_t{2} << 20;

// A mapping whose data begin at a huge page's border; only pages that are touched take memory.
void* map_huge(std::size_t bytes, void** base, std::size_t* mapped) {
  *mapped = bytes + kHugePage;
  *base = mmap(nullptr, *mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (*base == MAP_FAILED) throw std::bad_alloc();
  const auto start = (reinterpret_cast<std::uintptr_t>(*base) + kHugePage - 1) / kHugePage * kHugePage;
  madvise(reinterpret_cast<void*>(start), bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  return reinterpret_cast<void*>(start);
}

#endif

}  // namespace

Block::Block(std::size_t bytes) : bytes_(bytes) {
#if defined(__linux__)
  if (bytes >= kHugePage) {
    data_ = map_huge(bytes, &base_, &mapped_);
    return;
  }
#endif
  data_ = ::operator new(bytes, std::align_val_t{kAlignment});
  std::memset(data_, 0, bytes);
}

Block::~Block() {
#if defined(__linux__)
  if (mapped_ != 0) {
    munmap(base_, mapped_);
    return;
  }
#endif
  ::operator delete(data_, std::align_val_t{kAlignment});
}

}  // namespace sottovoce
