#include "threads.hpp"

#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sottovoce {
namespace {

constexpr int kMaxThreads = 256;
// A waiting thread turns without a system call for about a microsecond, then offers its core to whoever wants it (on a
// busy machine that may be the very thread it waits for), in all for some tens of microseconds: a pause inside a frame.
constexpr int kTurns = 64;
constexpr int kOffers = 64;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// Whether the condition came true in time.
template <class Condition>
bool watch(const Condition& condition) {
  for (int offer = 0; offer < kOffers; ++offer) {
    for (int turn = 0; turn < kTurns; ++turn) {
      if (condition()) return true;
      relax();
    }
    std::this_thread::yield();
  }
  return condition();
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  if (threads < 1 || threads > kMaxThreads) {
    throw std::invalid_argument("threads: expected 1 to " + std::to_string(kMaxThreads) + ", found " +
                                std::to_string(threads));
  }
  workers_.reserve(static_cast<std::size_t>(threads - 1));
  for (int part = 1; part < threads; ++part) workers_.emplace_back([this, part] { work(part); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    turn_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(Function function, const void* context) {
  const std::unique_lock busy(busy_, std::try_to_lock);
  if (!busy.owns_lock()) {
    for (int part = 0; part < size(); ++part) function(context, part);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    function_ = function;
    context_ = context;
    unfinished_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    turn_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  function(context, 0);
  while (!watch([&] { return unfinished_.load(std::memory_order_acquire) == 0; })) {
  }
}

void ThreadPool::work(int part) {
  unsigned seen = 0;
  for (;;) {
    if (!watch([&] { return turn_.load(std::memory_order_acquire) != seen; })) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return turn_.load(std::memory_order_relaxed) != seen; });
    }
    seen = turn_.load(std::memory_order_acquire);
    if (stop_) return;
    function_(context_, part);
    unfinished_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace sottovoce
