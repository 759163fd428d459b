// What every kernel path includes. Text that paths share is always compiled into each of them.
#pragma once

#include "../kernels.hpp"

#define SOTTOVOCE_INLINE __attribute__((always_inline)) inline
