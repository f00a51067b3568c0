// UTF-8 as the runtime knows it: base/utf8.h.
#pragma once

#include "base/utf8.h"
