// Which kernel paths exist, which of them this processor can run, and which one is used.
#pragma once

#include <string_view>
#include <vector>

#include "kernels.hpp"

namespace sottovoce {

struct KernelPath {
  std::string_view name;
  bool available;               // built in, and the processor and the operating system can run it
  const Kernels& (*kernels)();  // null where it is not built in; call it only where available
};

struct CpuFeature {
  std::string_view name;
  bool found;  // the processor has it, and the operating system saves its registers
};

// What paths are chosen by, on this architecture.
std::vector<CpuFeature> cpu_features();

// All paths of every architecture, the fastest first.
const std::vector<KernelPath>& kernel_paths();

// The path of that name; for an empty name the one in the environment variable SOTTOVOCE_KERNEL, and without that the
// first available. Throws std::invalid_argument, one line naming the known and the available paths.
const Kernels& choose_kernels(std::string_view name = {});

}  // namespace sottovoce
