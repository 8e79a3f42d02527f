/* heliosdb-proxy import pgbouncer FILE.ini [--output FILE [--force]] [--admin ADDRESS] */
#ifndef SERVER_IMPORT_COMMAND_H
#define SERVER_IMPORT_COMMAND_H

/* argv[0] is "import". The process's exit status. */
int import_command(int argc, char **argv);

#endif
