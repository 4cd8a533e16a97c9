# mote_module(NAME sources… [LIBS targets…]): the object library of one folder of src/.
# mote_isa(NAME sources… FLAGS flags…): kernels of one instruction set, compiled with its feature flags.
# Both are collected in MOTE_OBJECTS, from which the library is made, and the targets they link in MOTE_LIBS.

add_library(mote_flags INTERFACE)
target_compile_definitions(mote_flags INTERFACE _GNU_SOURCE)
target_include_directories(mote_flags INTERFACE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
target_compile_options(mote_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wundef -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual
  -Wwrite-strings -Wformat=2 -Wdouble-promotion -Wconversion -Wno-sign-conversion
  -ffp-contract=off -fvisibility=hidden -fno-math-errno)
if(CMAKE_C_COMPILER_ID STREQUAL GNU) # at -O3 gcc 12 takes errors that return through inlined calls for reads of nothing; at -O2 (dev) it knows better
  target_compile_options(mote_flags INTERFACE $<$<CONFIG:Release>:-Wno-maybe-uninitialized;-Wno-stringop-overflow>)
endif()
if(MOTE_WERROR)
  target_compile_options(mote_flags INTERFACE -Werror)
endif()
if(MOTE_SANITIZE)
  target_compile_options(mote_flags INTERFACE
    $<$<NOT:$<BOOL:$<TARGET_PROPERTY:MOTE_UNSANITIZED>>>:-fsanitize=${MOTE_SANITIZE};-fno-sanitize-recover=all> -fno-omit-frame-pointer)
  target_link_options(mote_flags INTERFACE -fsanitize=${MOTE_SANITIZE})
endif()
if(MOTE_FUZZ)
  target_compile_options(mote_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

set_property(GLOBAL PROPERTY MOTE_OBJECTS "")
set_property(GLOBAL PROPERTY MOTE_LIBS "")

function(mote_objects target)
  set_property(GLOBAL APPEND PROPERTY MOTE_OBJECTS ${target})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

function(mote_module name)
  cmake_parse_arguments(A "" "" "LIBS" ${ARGN})
  add_library(mote_${name} OBJECT ${A_UNPARSED_ARGUMENTS})
  target_link_libraries(mote_${name} PRIVATE mote_flags ${A_LIBS})
  mote_objects(mote_${name})
  set_property(GLOBAL APPEND PROPERTY MOTE_LIBS ${A_LIBS})
endfunction()

function(mote_isa name)
  cmake_parse_arguments(A "" "" "FLAGS" ${ARGN})
  add_library(mote_${name} OBJECT ${A_UNPARSED_ARGUMENTS})
  target_link_libraries(mote_${name} PRIVATE mote_flags)
  target_compile_options(mote_${name} PRIVATE ${A_FLAGS})
  # Flat unrolled loops over mapped weights, which sanitizers do not see, and 7 times slower to compile with them:
  # tests/kern puts guard pages around every operand instead. The scalar twins are instrumented.
  set_target_properties(mote_${name} PROPERTIES MOTE_UNSANITIZED ON)
  mote_objects(mote_${name})
endfunction()
