# How everything is compiled: the interface target tessera_options.
include_guard(GLOBAL)

set(TESSERA_IS_TOP_LEVEL OFF)
if(CMAKE_CURRENT_SOURCE_DIR STREQUAL CMAKE_SOURCE_DIR)
  set(TESSERA_IS_TOP_LEVEL ON)
endif()
option(TESSERA_WERROR "Treat warnings as errors" ${TESSERA_IS_TOP_LEVEL})

add_library(tessera_options INTERFACE)
target_compile_features(tessera_options INTERFACE c_std_11)
target_compile_definitions(tessera_options INTERFACE _GNU_SOURCE)
target_compile_options(tessera_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
  $<$<BOOL:${TESSERA_WERROR}>:-Werror>
  # The arithmetic contract (docs/): no contraction, which clang does by default, and nothing of -ffast-math. Without
  # -fno-trapping-math gcc does not vectorise the kernels' selects, and below -O3 it vectorises next to nothing.
  -ffp-contract=off -fno-trapping-math
  $<$<CONFIG:Release,RelWithDebInfo>:-O3>)

if(TESSERA_SANITIZE)
  target_compile_options(tessera_options INTERFACE
    -fsanitize=${TESSERA_SANITIZE} -fno-omit-frame-pointer -g)
  target_link_options(tessera_options INTERFACE -fsanitize=${TESSERA_SANITIZE})
  if(TESSERA_SANITIZE MATCHES "undefined")
    # A finding must fail the test that meets it.
    target_compile_options(tessera_options INTERFACE -fno-sanitize-recover=undefined)
  endif()
endif()
