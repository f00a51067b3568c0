#include "server/cli/cli.h"

int main(int argc, char** argv) { return quantd::Main(argc, argv); }
