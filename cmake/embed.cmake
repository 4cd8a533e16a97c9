# mote_embed(TARGET FILE SYMBOL): FILE becomes `const unsigned char SYMBOL[]` and `const size_t SYMBOL_bytes` in TARGET.
function(mote_embed target file symbol)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  file(CONFIGURE OUTPUT ${symbol}.c CONTENT "#include <stddef.h>
extern const unsigned char @symbol@[];
extern const size_t @symbol@_bytes;
const unsigned char @symbol@[] = {@bytes@};
const size_t @symbol@_bytes = sizeof @symbol@;
" @ONLY)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  target_sources(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/${symbol}.c)
endfunction()
