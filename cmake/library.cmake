# The library, from the objects of all modules.
#   mote_internal  every symbol, for tests and benches
#   mote_shared    libmote.so: only what include/mote declares (MOTE_API) is visible
#   mote_static    libmote.a: one object whose internal symbols are made local, so that a program that links it
#                  may have a json_parse of its own without replacing ours
get_property(MOTE_OBJECTS GLOBAL PROPERTY MOTE_OBJECTS)
get_property(MOTE_LIBS GLOBAL PROPERTY MOTE_LIBS)
list(REMOVE_DUPLICATES MOTE_LIBS)
set(objects "")
foreach(t ${MOTE_OBJECTS})
  list(APPEND objects $<TARGET_OBJECTS:${t}>)
endforeach()

add_library(mote_internal STATIC ${objects})
target_link_libraries(mote_internal PUBLIC mote_flags ${MOTE_LIBS})
if(MOTE_KERNELS_ONLY)
  return()
endif()

set(MOTE_PC_REQUIRES "")
foreach(lib ${MOTE_LIBS})
  if(NOT DEFINED MOTE_PC_${lib})
    message(FATAL_ERROR "a module links ${lib}, which cmake/deps.cmake does not name")
  endif()
  list(APPEND MOTE_PC_REQUIRES ${MOTE_PC_${lib}})
endforeach()
list(JOIN MOTE_PC_REQUIRES " " MOTE_PC_REQUIRES)

# A flat archive or object needs something to name its language: an empty translation unit.
set(one ${CMAKE_CURRENT_BINARY_DIR}/mote_all.o)
add_custom_command(OUTPUT ${one}
  COMMAND ${CMAKE_LINKER} -r -o ${one}.all ${objects}
  COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${one}.all ${one}
  COMMAND ${CMAKE_COMMAND} -E rm ${one}.all
  DEPENDS ${objects} COMMAND_EXPAND_LISTS VERBATIM COMMENT "Making internal symbols local")
set_source_files_properties(${one} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
add_library(mote_static STATIC ${one})
set_target_properties(mote_static PROPERTIES OUTPUT_NAME mote LINKER_LANGUAGE C EXPORT_NAME mote_static)

add_library(mote_shared SHARED ${objects})
set_target_properties(mote_shared PROPERTIES OUTPUT_NAME mote VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
  LINKER_LANGUAGE C)
if(NOT MOTE_SANITIZE) # a sanitizer's symbols come with the program
  target_link_options(mote_shared PRIVATE -Wl,-z,defs)
endif()
target_link_libraries(mote_shared PRIVATE mote_flags ${MOTE_LIBS})
target_link_libraries(mote_static INTERFACE ${MOTE_LIBS})

file(GLOB MOTE_PUBLIC_HEADERS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/mote/*.h)
foreach(t mote_static mote_shared)
  target_sources(${t} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${MOTE_PUBLIC_HEADERS})
endforeach()
# What a project that uses add_subdirectory links, under the names of find_package.
add_library(mote::mote ALIAS mote_shared)
add_library(mote::mote_static ALIAS mote_static)
