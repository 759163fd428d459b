// A few threads that share the rows of one product at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace sottovoce {

struct Range {
  int first, last;  // last is not in it

  // Part `part` of `parts`, as even as whole items allow.
  Range part(int part, int parts) const {
    const long long size = last - first;
    return {first + static_cast<int>(size * part / parts), first + static_cast<int>(size * (part + 1) / parts)};
  }
};

// run() calls a function once for each part, one of them on the calling thread, and returns when all are done. The
// split depends on the size alone, and no result may depend on the split. Workers watch for the next call for some
// microseconds, then sleep. A call that finds the pool at work for another thread does all parts itself.
class ThreadPool {
 public:
  explicit ThreadPool(int threads = 1);  // throws std::invalid_argument unless 1 to 256
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // task(int part), part in [0, size()); it must not throw.
  template <class Task>
  void run(const Task& task) {
    run([](const void* context, int part) { (*static_cast<const Task*>(context))(part); }, &task);
  }

  // task(Range) over items 0 .. count - 1; few items stay on this thread.
  template <class Task>
  void split(int count, int least, const Task& task) {
    if (workers_.empty() || count < least) return task(Range{0, count});
    const int parts = size();
    run([&](int part) { task(Range{0, count}.part(part, parts)); });
  }

 private:
  using Function = void (*)(const void*, int);

  void run(Function function, const void* context);
  void work(int part);

  std::vector<std::thread> workers_;
  std::mutex busy_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<unsigned> turn_{0};
  std::atomic<int> unfinished_{0};
  bool stop_ = false;
  Function function_ = nullptr;
  const void* context_ = nullptr;
};

}  // namespace sottovoce
