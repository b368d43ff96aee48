// What a program asks of a stream, as structs that may be of an older header.
#pragma once

#include "facetalk.h"

namespace facetalk::capi {

constexpr double kOwnGuidance = -1.0;  // asks for the model's own

// What a program gave with the defaults where its struct is shorter, or NULL. Throw ArgumentError for what is out of
// range.
facetalk_stream_options checked(const facetalk_stream_options* given);
facetalk_style checked(const facetalk_style* given);
facetalk_frames checked(const facetalk_frames& given);

}  // namespace facetalk::capi
