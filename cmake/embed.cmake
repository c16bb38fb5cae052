# embed_text(NAME FILE HEADER OUT): writes OUT, a C source that defines `const unsigned char NAME[]` with the file's bytes and a 0; HEADER
# declares it.
function(embed_text name file header out)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(READ ${file} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  file(CONFIGURE OUTPUT ${out} CONTENT "#include \"${header}\"\n\nconst unsigned char ${name}[] = {${bytes}0};\n" @ONLY)
endfunction()
