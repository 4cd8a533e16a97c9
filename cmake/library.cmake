# The library. libmote.a for tests and the program links all objects; only mote_* symbols are visible
# in the shared one.
get_property(MOTE_OBJECTS GLOBAL PROPERTY MOTE_OBJECTS)
get_property(MOTE_LIBS GLOBAL PROPERTY MOTE_LIBS)
list(REMOVE_DUPLICATES MOTE_LIBS)
set(objects "")
foreach(t ${MOTE_OBJECTS})
  list(APPEND objects $<TARGET_OBJECTS:${t}>)
endforeach()

# What tests and benches link: every internal symbol.
add_library(mote_internal STATIC ${objects})
target_link_libraries(mote_internal PUBLIC mote_flags ${MOTE_LIBS})
