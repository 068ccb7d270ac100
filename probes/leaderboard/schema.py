"""The schema of a result as JSON Schema (draft 2020-12), for editors and other languages.

`fm leaderboard check` reads the same models and also checks what no schema can say, such as
scores that contradict one another.
"""

import json
from typing import Any

from probes.leaderboard.records import FORMAT_VERSIONS, SINCE_2, Record


def schema() -> dict[str, Any]:
    """Return the JSON Schema of one result, of every format version that is read."""
    made = Record.model_json_schema()
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "eofm result"
    made["description"] = (
        f"One model judged by one protocol on one benchmark; format versions "
        f"{' and '.join(map(str, FORMAT_VERSIONS))}. Keys beyond these are ignored."
    )
    made["if"] = {"properties": {"format_version": {"const": 1}}}
    made["else"] = {"required": list(SINCE_2)}
    return made


def as_text() -> str:
    """Write the schema as JSON, ending in a line break."""
    return json.dumps(schema(), indent=2) + "\n"
