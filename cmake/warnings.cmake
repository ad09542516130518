# What every gangway target is compiled with.
add_library(gangway_warnings INTERFACE)
target_compile_options(gangway_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(gangway_warnings INTERFACE -Wno-missing-designated-field-initializers)
else()
  # GCC 12 warns of designated initializers that leave members to their defaults, and, optimized, of std::vector
  # internals that it inlines wrongly; Clang has neither.
  target_compile_options(gangway_warnings INTERFACE -Wno-missing-field-initializers -Wno-stringop-overflow
                                                    -Wno-array-bounds -Wno-restrict)
endif()
if(GANGWAY_WERROR)
  target_compile_options(gangway_warnings INTERFACE -Werror)
endif()
