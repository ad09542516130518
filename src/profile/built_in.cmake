# Writes the profiles as C++: cmake -DOUT=file -DPROFILES="a.profile;b.profile" -P built_in.cmake
set(entries "")
foreach(file IN LISTS PROFILES)
  get_filename_component(name ${file} NAME_WLE)
  file(READ ${file} text)
  string(APPEND entries "    {\"${name}\", R\"profile(${text})profile\"},\n")
endforeach()
file(WRITE ${OUT}
"#include \"profile/library.h\"

namespace gangway::profile {
namespace {

constexpr BuiltIn kProfiles[] = {
${entries}};

}  // namespace

std::span<const BuiltIn> built_in_profiles() { return kProfiles; }

}  // namespace gangway::profile
")
