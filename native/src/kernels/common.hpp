// What every kernel path includes. Its macros keep shared source text out of shared object code.
#pragma once

#include "../kernels.hpp"

#define SOTTOVOCE_INLINE __attribute__((always_inline)) inline
