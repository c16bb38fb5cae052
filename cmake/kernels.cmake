# Builds the kernels: kernel-pack, what it makes, and the object library tessera_kernels.
include_guard(GLOBAL)
include(CheckCCompilerFlag)

file(GLOB KERNEL_FILES CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} kernels/*.k)
list(REMOVE_ITEM KERNEL_FILES kernels/common.k kernels/common_math.k)
list(SORT KERNEL_FILES)
set(KERNEL_OUT ${CMAKE_CURRENT_BINARY_DIR}/kernels)
set(KERNEL_INPUTS ${KERNEL_FILES} kernels/common.k kernels/common_math.k kernels/elementwise.def)
list(TRANSFORM KERNEL_INPUTS PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)

file(GLOB KERNEL_PACK_SOURCES CONFIGURE_DEPENDS tools/kernel-pack/*.c)
add_executable(kernel-pack ${KERNEL_PACK_SOURCES})
target_compile_options(kernel-pack PRIVATE -O1 -Wall -Wextra -Wpedantic $<$<BOOL:${TESSERA_WERROR}>:-Werror>)
target_compile_definitions(kernel-pack PRIVATE _GNU_SOURCE)

find_program(GLSLANG_PROGRAM NAMES glslangValidator glslang)
if(GLSLANG_PROGRAM)
  set(KERNEL_PACK_GLSLANG --glslang ${GLSLANG_PROGRAM})
else()
  set(KERNEL_PACK_GLSLANG)
  message(WARNING "glslangValidator was not found: the Vulkan kernels are left out, and Vulkan devices can run "
                  "nothing. Install glslang-tools and configure again.")
endif()
include(ProcessorCount)
ProcessorCount(KERNEL_PACK_JOBS)
if(KERNEL_PACK_JOBS EQUAL 0)
  set(KERNEL_PACK_JOBS 1)
endif()

# One C file for each .k and value of its TX: kernel-pack makes the same names, so a change of FOR(TX, …) configures again.
set(KERNEL_C_FILES)
foreach(file IN LISTS KERNEL_FILES)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  get_filename_component(name ${file} NAME_WE)
  file(STRINGS ${file} types REGEX "^FOR\\(TX,")
  if(types)
    string(REGEX REPLACE "^FOR\\(TX, *([^)]*)\\).*" "\\1" types "${types}")
    string(REGEX REPLACE " +" ";" types "${types}")
    foreach(type IN LISTS types)
      list(APPEND KERNEL_C_FILES ${KERNEL_OUT}/c/${name}.${type}.c)
    endforeach()
  else()
    list(APPEND KERNEL_C_FILES ${KERNEL_OUT}/c/${name}.c)
  endif()
endforeach()

set(KERNEL_CATALOGUE ${KERNEL_OUT}/catalogue/catalogue.c ${KERNEL_OUT}/catalogue/preludes.c
    ${KERNEL_OUT}/catalogue/elementwise_table.c)
file(MAKE_DIRECTORY ${KERNEL_OUT})
set(KERNEL_PACK_COMMAND kernel-pack --root ${CMAKE_CURRENT_SOURCE_DIR} --out ${KERNEL_OUT})
add_custom_command(
  OUTPUT ${KERNEL_C_FILES}
  COMMAND ${KERNEL_PACK_COMMAND} c ${KERNEL_FILES}
  DEPENDS kernel-pack ${KERNEL_INPUTS}
  COMMENT "Writing the C kernels" VERBATIM)
add_custom_command(
  OUTPUT ${KERNEL_CATALOGUE}
  COMMAND ${KERNEL_PACK_COMMAND} ${KERNEL_PACK_GLSLANG} --jobs ${KERNEL_PACK_JOBS} catalogue ${KERNEL_FILES}
  DEPENDS kernel-pack ${KERNEL_INPUTS} ${CMAKE_CURRENT_SOURCE_DIR}/backends/vulkan/prelude.glsl
          ${CMAKE_CURRENT_SOURCE_DIR}/backends/vulkan/math_f64.glsl
          ${CMAKE_CURRENT_SOURCE_DIR}/backends/opencl/prelude.cl ${CMAKE_CURRENT_SOURCE_DIR}/backends/cuda/prelude.cu
  COMMENT "Compiling the Vulkan kernels and writing the catalogue" VERBATIM)

# An instruction set is a file of two lines around each generated one: its flags are the file's.
# Sanitizers look at the code, not at its speed: one instruction set is enough for them, and a third of the time.
if(TESSERA_SANITIZE)
  set(all_isas OFF)
else()
  set(all_isas ON)
endif()
option(TESSERA_ALL_ISAS "Compile the C kernels for every instruction set, not for the baseline alone" ${all_isas})
set(KERNEL_ISAS baseline)
set(KERNEL_ISA_DEFINITIONS)
if(TESSERA_ALL_ISAS AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  foreach(level v3 v4)
    check_c_compiler_flag(-march=x86-64-${level} TESSERA_HAS_X86_64_${level})
    if(TESSERA_HAS_X86_64_${level})
      list(APPEND KERNEL_ISAS ${level})
      string(TOUPPER ${level} upper)
      list(APPEND KERNEL_ISA_DEFINITIONS KERNELS_X86_64_${upper}=1)
    endif()
  endforeach()
  check_c_compiler_flag(-mprefer-vector-width=512 TESSERA_HAS_PREFER_VECTOR_WIDTH)
endif()
set(KERNEL_FLAGS_baseline)
set(KERNEL_FLAGS_v3 -march=x86-64-v3)
set(KERNEL_FLAGS_v4 -march=x86-64-v4 $<$<BOOL:${TESSERA_HAS_PREFER_VECTOR_WIDTH}>:-mprefer-vector-width=512>)

set(KERNEL_SOURCES)
foreach(generated IN LISTS KERNEL_C_FILES)
  get_filename_component(name ${generated} NAME_WLE)
  foreach(isa IN LISTS KERNEL_ISAS)
    set(source ${KERNEL_OUT}/isa/${name}.${isa}.c)
    file(CONFIGURE OUTPUT ${source} CONTENT "#define ISA ${isa}\n#include \"${generated}\"\n" @ONLY)
    set_source_files_properties(${source} PROPERTIES
      COMPILE_OPTIONS "${KERNEL_FLAGS_${isa}}" OBJECT_DEPENDS ${generated})
    list(APPEND KERNEL_SOURCES ${source})
  endforeach()
endforeach()

add_library(tessera_kernels OBJECT ${KERNEL_SOURCES} ${KERNEL_CATALOGUE})
target_include_directories(tessera_kernels PRIVATE src include .)
target_compile_definitions(tessera_kernels PRIVATE _GNU_SOURCE ${KERNEL_ISA_DEFINITIONS})
# The arithmetic contract, in every configuration, and integers that wrap as they do on GPUs. What kernels leave unused is no
# mistake, and long texts are no ISO C.
target_compile_options(tessera_kernels PRIVATE
  -O3 -ffp-contract=off -fno-trapping-math -fno-math-errno -fwrapv -Wall -Wextra
  -Wno-unused-variable -Wno-unused-but-set-variable -Wno-unused-function -Wno-unused-parameter
  -Wno-sign-compare -Wno-overlength-strings $<$<BOOL:${TESSERA_WERROR}>:-Werror>
  $<$<C_COMPILER_ID:GNU>:-Wno-psabi> $<$<C_COMPILER_ID:Clang,AppleClang>:-Wno-pass-failed>)
if(TESSERA_SANITIZE)
  target_compile_options(tessera_kernels PRIVATE -fsanitize=${TESSERA_SANITIZE} -fno-omit-frame-pointer -g)
  if(TESSERA_SANITIZE MATCHES "undefined")
    target_compile_options(tessera_kernels PRIVATE -fno-sanitize-recover=undefined)
  endif()
endif()
