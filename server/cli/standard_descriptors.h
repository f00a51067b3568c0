// Descriptors 0, 1 and 2 where whoever started the process closed them.
#pragma once

namespace quantd {

// Opens those that are closed as /dev/null. Call first of all: the next file or socket would get their numbers, and log
// lines would go into it.
void OpenStandardDescriptors();

}  // namespace quantd
