# Prints the member PATH_ (a;b;c) of the JSON in FILE; fails where there is none.
file(READ ${FILE} text)
string(JSON value GET "${text}" ${PATH_})
execute_process(COMMAND ${CMAKE_COMMAND} -E echo "${value}")
