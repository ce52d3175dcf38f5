"""Finding documents by their identifier without looking at all of them, as every MongoDB does."""

from collections.abc import Iterator
from typing import Any

from mongomock.collection import Collection

Document = dict[str, Any]

_patched: Any = Collection
_find_among_all = _patched._iter_documents


def _iter_documents(self: Any, query: Any) -> Iterator[Document]:
    """Return the documents that match, as mongomock's own method does."""
    wanted = query.get("_id") if isinstance(query, dict) else None
    if isinstance(wanted, dict) and list(wanted) == ["$in"]:
        wanted = wanted["$in"]
    elif isinstance(wanted, str):
        wanted = [wanted]
    if not isinstance(wanted, list) or not all(isinstance(id, str) for id in wanted):
        found_slowly: Iterator[Document] = _find_among_all(self, query)
        return found_slowly
    documents = self._store._documents
    found = {id: documents[id] for id in wanted if id in documents}
    rest = {name: value for name, value in query.items() if name != "_id"}
    # mongomock looks at what "self" has; here that is only what was found.
    matching: Iterator[Document] = _find_among_all(_Some(self, found), rest)
    return matching


class _Some:
    """A collection of which only some documents are looked at."""

    def __init__(self, collection: Any, documents: dict[Any, Document]):
        self._collection = collection
        self._store = self
        self.documents = list(documents.values())
        self.is_empty = not documents

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)


_patched._iter_documents = _iter_documents
