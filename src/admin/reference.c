/* The reference page of the endpoints: their table, and what the OpenAPI document says of those below /api/v1. */
#include "admin/openapi.h"
#include "admin/reference.h"

#include "admin/admin_priv.h"

static void print_head(FILE *out)
{
	fputs("# Endpoints of the admin API\n\n"
	      "<!-- Made by `heliosdb-proxy --generate endpoints`. Edit src/admin/endpoints.def and "
	      "src/admin/openapi/. "
	      "-->\n\n"
	      "How to reach it, tokens and roles: [admin API](../admin-api.md). `{name}` in a path stands for one "
	      "segment, `{name...}` for all that is left. A role may what those in front of it may: open (no token), "
	      "read, operate, admin. HEAD is GET without a body.\n\n",
	      out);
}

/* ---- tables of endpoints ---- */

static void print_table_head(FILE *out)
{
	fputs("| endpoint | role | |\n|---|---|---|\n", out);
}

/* A "|" would end the cell. */
static void print_cell(const char *text, FILE *out)
{
	for (const char *c = text; *c; c++)
		fprintf(out, *c == '|' ? "\\%c" : "%c", *c);
}

static json_t *operation_of(json_t *document, const struct route *route)
{
	json_t *paths = json_object_get(document, "paths"), *operation;
	char path[256], method[16];
	const char *dots = strstr(route->path, "...}");
	size_t len = 0;

	snprintf(path, sizeof(path), "%.*s%s", dots ? (int)(dots - route->path) : (int)strlen(route->path), route->path,
		 dots ? "}" : "");
	for (const char *c = route->method; *c && len + 1 < sizeof(method); c++)
		method[len++] = (char)(*c | 0x20);
	method[len] = 0;
	operation = json_object_get(json_object_get(paths, path), method);
	return operation;
}

static const char *parameter_name(json_t *document, json_t *parameter)
{
	const char *ref = json_string_value(json_object_get(parameter, "$ref"));
	json_t *shared = json_object_get(json_object_get(document, "components"), "parameters");

	if (ref && strrchr(ref, '/'))
		parameter = json_object_get(shared, strrchr(ref, '/') + 1);
	if (strcmp(json_string_value(json_object_get(parameter, "in")), "query") != 0)
		return NULL;
	return json_string_value(json_object_get(parameter, "name"));
}

static void print_parameters(json_t *document, json_t *operation, FILE *out)
{
	json_t *parameter;
	const char *before = " Parameters: ";
	size_t i;

	json_array_foreach(json_object_get(operation, "parameters"), i, parameter)
	{
		const char *name = parameter_name(document, parameter);

		if (name)
			fprintf(out, "%s`%s`", before, name);
		before = name ? ", " : before;
	}
	if (strcmp(before, ", ") == 0)
		fputc('.', out);
}

static void print_rows(json_t *document, bool versioned, FILE *out)
{
	print_table_head(out);
	for (size_t i = 0; i < route_count; i++) {
		const struct route *r = &routes[i];
		json_t *operation = versioned && r->handler ? operation_of(document, r) : NULL;

		if (!r->handler || path_is_versioned(r->path) != versioned)
			continue;
		fprintf(out, "| `%s %s` | %s | ", r->method, r->path, access_name(r->access));
		print_cell(operation ? json_string_value(json_object_get(operation, "summary")) : r->help, out);
		print_parameters(document, operation, out);
		fputs(" |\n", out);
	}
	fputc('\n', out);
}

static void print_unavailable(FILE *out)
{
	fputs("## Not in this build\n\nThese answer 501, whatever the method, and say what is missing.\n\n| path | "
	      "what it needs |\n|---|---|\n",
	      out);
	for (size_t i = 0; i < route_count; i++)
		if (!routes[i].handler)
			fprintf(out, "| `%s` | %s |\n", routes[i].path, routes[i].help);
}

static void print_problems(FILE *out)
{
	fputs("\n## Codes of errors\n\n| status | code | |\n|---|---|---|\n", out);
#define STATUS(status, code, help) fprintf(out, "| %d | `%s` | %s |\n", status, code, help);
#define PROBLEM(code, help)        fprintf(out, "| | `%s` | %s |\n", code, help);
#include "admin/problems.def"
}

/* ---- what they tell ---- */

/* "integer or null", "list of Node" */
static void print_type(json_t *schema, FILE *out)
{
	const char *ref = json_string_value(json_object_get(schema, "$ref"));
	json_t *type = json_object_get(schema, "type"), *choice = json_object_get(schema, "oneOf"), *each;
	size_t i;

	if (ref)
		fputs(strrchr(ref, '/') ? strrchr(ref, '/') + 1 : ref, out);
	else if (json_is_string(type) && strcmp(json_string_value(type), "array") == 0) {
		fputs("list of ", out);
		print_type(json_object_get(schema, "items"), out);
	} else if (json_is_string(type))
		fputs(json_string_value(type), out);
	json_array_foreach(type, i, each) fprintf(out, "%s%s", i ? " or " : "", json_string_value(each));
	json_array_foreach(choice, i, each)
	{
		fputs(i ? " or " : "", out);
		print_type(each, out);
	}
}

static void print_schema(const char *name, json_t *schema, FILE *out)
{
	const char *help = json_string_value(json_object_get(schema, "description")), *key;
	json_t *field, *word;
	size_t i;

	fprintf(out, "### %s\n\n%s%s| field | type | |\n|---|---|---|\n", name, help ? help : "", help ? "\n\n" : "");
	json_object_foreach(json_object_get(schema, "properties"), key, field)
	{
		const char *text = json_string_value(json_object_get(field, "description"));

		fprintf(out, "| `%s` | ", key);
		print_type(field, out);
		fputs(" | ", out);
		json_array_foreach(json_object_get(field, "enum"), i, word) if (json_is_string(word))
			fprintf(out, "%s`%s`", i ? ", " : "", json_string_value(word));
		fputs(json_object_get(field, "enum") && text ? ". " : "", out);
		print_cell(text ? text : "", out);
		fputs(" |\n", out);
	}
	fputc('\n', out);
}

int admin_reference(FILE *out)
{
	json_t *document = json_loadb((const char *)openapi_document, openapi_len, 0, NULL), *schema;
	const char *name;

	if (!document)
		return -ENOMEM;
	print_head(out);
	fputs("## The versioned API\n\nNames are snake_case with their units; times are RFC 3339 in UTC; what is not "
	      "known "
	      "is null. A list is `{\"items\": [...], \"total\": N}`. An error is a `Problem` (RFC 9457, "
	      "`application/problem+json`): programs tell it by its `code`. `GET /api/v1/openapi.json` says all this "
	      "as OpenAPI 3.1.\n\n",
	      out);
	print_rows(document, /* versioned= */ true, out);
	fputs("## The reference's, and others\n\nAn error is `{\"error\": text}`.\n\n", out);
	print_rows(document, /* versioned= */ false, out);
	print_unavailable(out);
	print_problems(out);
	fputs("\n## What the versioned API tells and takes\n\n", out);
	json_object_foreach(json_object_get(json_object_get(document, "components"), "schemas"), name, schema)
		print_schema(name, schema, out);
	json_decref(document);
	return 0;
}
