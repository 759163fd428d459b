// What every kernel path includes. Text that paths share is always compiled into each of them.
#pragma once

#include "../kernels.hpp"

#define SOTTOVOCE_INLINE __attribute__((always_inline)) inline
// A function of its own: loops share no registers with those of other widths, and their instructions can be counted.
#define SOTTOVOCE_APART __attribute__((noinline))

namespace sottovoce {

// What a band's codes stand for.
enum class Form { levels, levels_with_minus_128, signs_apart };

}  // namespace sottovoce
