# Run at install time with QUANTD_SOURCE and QUANTD_DOCS (relative to the prefix): copies README.md, CONTRIBUTING.md, LICENSE
# and docs/ as they lie in the checkout, so that their links hold. Links to sources, which are not installed, become plain text.
set(target $ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/${QUANTD_DOCS})
file(GLOB_RECURSE files RELATIVE ${QUANTD_SOURCE} ${QUANTD_SOURCE}/docs/*.md ${QUANTD_SOURCE}/docs/*.svg)
foreach(file README.md CONTRIBUTING.md LICENSE ${files})
  file(READ ${QUANTD_SOURCE}/${file} text)
  string(REGEX REPLACE "\\[([^]\n]*)\\]\\((\\.\\./)*((base|kernels|runtime|scheduler|server|proto|tests|tools|models|deploy|loadtest)/[^)\n]*)\\)"
    "\\1 (\\3)" text "${text}")
  file(WRITE ${target}/${file} "${text}")
endforeach()
message(STATUS "Installed: ${target}")
