# gangway_room(NAME SOURCES ... [USES rooms...] [LINKS libraries...] [PROTOS files...])
#
# A room is one folder of src/ and one static library. It may include the public headers, its own, and those of
# the rooms it uses. src/ is the include root, so an include names the room: "vfio_user/channel.h".
# The target "generated" makes the sources that are generated, for tools that read sources without building them.
add_custom_target(generated)
function(gangway_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;USES;LINKS;PROTOS" ${ARGN})
  add_library(gangway_${name} STATIC ${ROOM_SOURCES})
  target_include_directories(gangway_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(gangway_${name} PUBLIC ${ROOM_LINKS} PRIVATE gangway_warnings)
  foreach(used IN LISTS ROOM_USES)
    target_link_libraries(gangway_${name} PUBLIC gangway_${used})
  endforeach()
  if(ROOM_PROTOS)
    # Generated code is a library of its own, so that our warnings do not apply to it.
    protobuf_generate_cpp(sources headers ${ROOM_PROTOS})
    add_custom_target(gangway_${name}_generated DEPENDS ${headers})
    add_dependencies(generated gangway_${name}_generated)
    add_library(gangway_${name}_proto STATIC ${sources} ${headers})
    target_include_directories(gangway_${name}_proto SYSTEM PUBLIC ${CMAKE_CURRENT_BINARY_DIR})
    target_link_libraries(gangway_${name}_proto PUBLIC protobuf::libprotobuf-lite)
    target_link_libraries(gangway_${name} PUBLIC gangway_${name}_proto)
  endif()
endfunction()
