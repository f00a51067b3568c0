#include "runtime/added_token_json.h"

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtime/json.h"

namespace quantd {

absl::StatusOr<AddedToken> ParseAddedToken(const nlohmann::json& json, std::string_view place) {
  if (!json.is_object()) {
    return absl::DataLossError(absl::StrCat(ToAbsl(place), ": ", Excerpt(json), ", expected an object"));
  }
  AddedToken token;
  QD_ASSIGN_OR_RETURN(token.content, GetString(json, "content", "", place));
  QD_ASSIGN_OR_RETURN(token.special, GetBool(json, "special", false, place));
  QD_ASSIGN_OR_RETURN(token.single_word, GetBool(json, "single_word", false, place));
  QD_ASSIGN_OR_RETURN(token.lstrip, GetBool(json, "lstrip", false, place));
  QD_ASSIGN_OR_RETURN(token.rstrip, GetBool(json, "rstrip", false, place));
  QD_ASSIGN_OR_RETURN(token.normalized, GetBool(json, "normalized", !token.special, place));
  return token;
}

}  // namespace quantd
