#include "cpu.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(SOTTOVOCE_X86_64)
#include <cpuid.h>
#elif defined(SOTTOVOCE_ARM64) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(SOTTOVOCE_ARM64) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace sottovoce {
namespace {

struct Features {
  bool avx2 = false, avx_vnni = false, avx512_vnni = false, avx512_vbmi = false, neon = false, dotprod = false;
};

#if defined(SOTTOVOCE_X86_64)

// Which registers the operating system saves: bits 1 and 2 SSE and AVX, bits 5 to 7 masks and the 512-bit registers.
unsigned saved_registers() {
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

Features detect() {
  Features found;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
  const bool os_tells = c >> 27 & 1, avx = c >> 28 & 1;
  if (!os_tells || !avx || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
  const unsigned saved = saved_registers();
  if ((saved & 0x06) != 0x06) return found;
  found.avx2 = b >> 5 & 1;
  const unsigned subleaves = a;
  const bool f = b >> 16 & 1, dq = b >> 17 & 1, bw = b >> 30 & 1, vl = b >> 31 & 1;
  const bool vbmi = c >> 1 & 1, vnni = c >> 11 & 1;
  found.avx512_vnni = (saved & 0xe0) == 0xe0 && found.avx2 && f && dq && bw && vl && vnni;
  found.avx512_vbmi = found.avx512_vnni && vbmi;
  found.avx_vnni = found.avx2 && subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
  return found;
}

#elif defined(SOTTOVOCE_ARM64)

Features detect() {
  Features found;
  found.neon = true;  // part of the base architecture
#if defined(__linux__)
  found.dotprod = getauxval(AT_HWCAP) >> 20 & 1;  // HWCAP_ASIMDDP
#elif defined(__APPLE__)
  int value = 0;
  std::size_t size = sizeof value;
  found.dotprod = sysctlbyname("hw.optional.arm.FEAT_DotProd", &value, &size, nullptr, 0) == 0 && value != 0;
#endif
  return found;
}

#else

Features detect() { return {}; }

#endif

std::vector<KernelPath> list_paths() {
  const Features found = detect();
#if defined(SOTTOVOCE_X86_64)
  return {{"avx512-vbmi-vnni", found.avx512_vbmi, avx512_vbmi_vnni_kernels},
          {"avx512-vnni", found.avx512_vnni, avx512_vnni_kernels},
#if defined(SOTTOVOCE_AVX_VNNI)
          {"avx-vnni", found.avx_vnni, avx_vnni_kernels},
#else
          {"avx-vnni", false, nullptr},  // this compiler does not know it
#endif
          {"avx2", found.avx2, avx2_kernels},
          {"neon-dotprod", found.dotprod, nullptr},
          {"neon", found.neon, nullptr},
          {"portable", true, portable_kernels}};
#else
  return {{"avx512-vbmi-vnni", found.avx512_vbmi, nullptr},
          {"avx512-vnni", found.avx512_vnni, nullptr},
          {"avx-vnni", found.avx_vnni, nullptr},
          {"avx2", found.avx2, nullptr},
#if defined(SOTTOVOCE_ARM64)
          {"neon-dotprod", found.dotprod, neon_dotprod_kernels},
          {"neon", found.neon, neon_kernels},
#else
          {"neon-dotprod", found.dotprod, nullptr},
          {"neon", found.neon, nullptr},
#endif
          {"portable", true, portable_kernels}};
#endif
}

std::string names(bool only_available) {
  std::string text;
  for (const KernelPath& path : kernel_paths()) {
    if (only_available && !path.available) continue;
    if (!text.empty()) text += ", ";
    text += path.name;
  }
  return text;
}

}  // namespace

std::vector<CpuFeature> cpu_features() {
  const Features found = detect();
#if defined(SOTTOVOCE_X86_64)
  return {{"AVX2", found.avx2},
          {"AVX-VNNI", found.avx_vnni},
          {"AVX-512 VNNI", found.avx512_vnni},
          {"AVX-512 VBMI", found.avx512_vbmi}};
#elif defined(SOTTOVOCE_ARM64)
  return {{"NEON", found.neon}, {"dotprod", found.dotprod}};
#else
  return {};
#endif
}

const std::vector<KernelPath>& kernel_paths() {
  static const std::vector<KernelPath> paths = list_paths();
  return paths;
}

const Kernels& choose_kernels(std::string_view name) {
  std::string_view source = "kernel";
  if (name.empty()) {
    const char* forced = std::getenv("SOTTOVOCE_KERNEL");
    name = forced != nullptr ? forced : "";
    source = "SOTTOVOCE_KERNEL";
  }
  for (const KernelPath& path : kernel_paths()) {
    if (path.available && (name.empty() || name == path.name)) return path.kernels();
  }
  throw std::invalid_argument(std::string(source) + ": expected one of " + names(false) + " (this machine can run " +
                              names(true) + "), found '" + std::string(name) + "'");
}

}  // namespace sottovoce
