# Tests that are not GoogleTest programs: Python scripts and fuzz targets. A script that exits with 77 is skipped; it
# prints the reason as "SKIP: reason".
find_package(Python3 REQUIRED COMPONENTS Interpreter)
function(quantd_python_test name file)
  add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/${file} ${ARGN})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120 ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1")
endfunction()
quantd_python_test(tools/check_layers tools/check_layers_test.py)
quantd_python_test(tools/run_tests tools/run_tests_test.py)
quantd_python_test(tools/fuzz tools/fuzz_test.py)

# tests/fuzz/fuzz_<name>.cc is a target and tests/fuzz/corpus/<name>/ its corpus: with QUANTD_FUZZ a libFuzzer program,
# which tools/fuzz.py runs, without it a program that replays the corpus.
# Files of the server that need protobuf alone are built into their targets: the fuzz build has no gRPC.
set(fuzz_requests_server convert.cc schema_reflection.cc struct_json.cc tokenize.cc wire_check.cc)
file(GLOB fuzz_sources CONFIGURE_DEPENDS fuzz/fuzz_*.cc)
add_custom_target(fuzz_targets)
foreach(file ${fuzz_sources})
  get_filename_component(target ${file} NAME_WE)
  string(REPLACE "fuzz_" "" name ${target})
  set(corpus ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${name})
  if(DEFINED ${target}_server AND NOT TARGET quantd_messages)
    continue()
  endif()
  add_executable(${target} ${file})
  target_link_libraries(${target} PRIVATE quantd_scheduler quantd_edge quantd_flags)
  add_dependencies(fuzz_targets ${target})
  if(DEFINED ${target}_server)
    list(TRANSFORM ${target}_server PREPEND ${PROJECT_SOURCE_DIR}/server/)
    target_sources(${target} PRIVATE ${${target}_server})
    target_link_libraries(${target} PRIVATE quantd_messages)
  endif()
  if(QUANTD_FUZZ)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${target} PRIVATE fuzz/replay_main.cc)
    add_test(NAME fuzz/${name} COMMAND ${target} ${corpus})
    set_tests_properties(fuzz/${name} PROPERTIES LABELS fuzz TIMEOUT 120)
  endif()
endforeach()

# The built program as a process: its command line, its signals, what it makes of a checkpoint's defaults.
if(QUANTD_SERVER)
  quantd_python_test(server/cli server/cli_test.py $<TARGET_FILE:quantd> ${CMAKE_CURRENT_SOURCE_DIR}/goldens)
  set_tests_properties(server/cli PROPERTIES LABELS server TIMEOUT 300)
  quantd_python_test(server/checkpoint_defaults server/checkpoint_defaults_test.py $<TARGET_FILE:quantd>)
  set_tests_properties(server/checkpoint_defaults PROPERTIES LABELS server TIMEOUT 300)
endif()

# Clients made elsewhere, those that pip brings; tools/clients/run.py knows more.
if(QUANTD_SERVER)
  add_test(NAME server/foreign_clients COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/clients/run.py
    --scratch ${CMAKE_CURRENT_BINARY_DIR}/clients $<TARGET_FILE:quantd> grpcio grpcio-aio grpclib grpcurl)
  set_tests_properties(server/foreign_clients PROPERTIES SKIP_RETURN_CODE 77 LABELS server_slow TIMEOUT 900
    ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1")
endif()

# A conversation on a terminal; README's lines.
if(QUANTD_SERVER)
  quantd_python_test(tools/readme tools/readme_test.py ${PROJECT_SOURCE_DIR} $<TARGET_FILE:quantd>)
  set_tests_properties(tools/readme PROPERTIES LABELS tools TIMEOUT 300)
  quantd_python_test(server/chat_terminal server/chat_terminal_test.py $<TARGET_FILE:quantd> ${CMAKE_CURRENT_SOURCE_DIR}/goldens)
  set_tests_properties(server/chat_terminal PROPERTIES LABELS server TIMEOUT 300)
endif()

# Every relative link of the checkout and of what is installed leads somewhere.
quantd_python_test(tools/links tools/links_test.py ${PROJECT_SOURCE_DIR} ${CMAKE_BINARY_DIR})
set_tests_properties(tools/links PROPERTIES LABELS tools TIMEOUT 120)

# A stock Python client against the daemon, and what strangers do to it. The first run fetches grpcio-tools into the build
# folder. The second times a stream beside each attack: alone on the machine, and after the first, whose folder it shares.
if(QUANTD_SERVER)
  quantd_python_test(server/python_client server/python/python_client_test.py
    $<TARGET_FILE:quantd> ${PROJECT_SOURCE_DIR}/proto ${CMAKE_CURRENT_BINARY_DIR}/python-client)
  set_tests_properties(server/python_client PROPERTIES LABELS server TIMEOUT 600)
  quantd_python_test(server/hostile server/hostile/hostile_test.py
    $<TARGET_FILE:quantd> ${PROJECT_SOURCE_DIR}/proto ${CMAKE_CURRENT_BINARY_DIR}/python-client)
  set_tests_properties(server/hostile PROPERTIES LABELS "hostile;slow" TIMEOUT 900 RUN_SERIAL TRUE)
endif()
