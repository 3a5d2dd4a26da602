"""How a recipe names a part: its name, and its options; and how it names a model."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict, Field, JsonValue, model_serializer, model_validator

from agentft.validation import Listed, Model


class PartUse(Model):
    """A part and its options: ``{use: dedup, threshold: 0.8}``, or just ``dedup``."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]
    expects: ClassVar[str] = "the name of a part, or a mapping with 'use'"

    use: str = Field(min_length=1, description="name of the part, such as `sft` or `customer-service/dialogues`")
    weight: float = Field(default=1.0, gt=0, description="sources only: share of the rows to take; above 1, rows are repeated")

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, data: Any) -> Any:
        return {"use": data} if isinstance(data, str) else data

    @model_serializer(mode="wrap")
    def _without_default(self, plain: Any) -> dict[str, Any]:
        data: dict[str, Any] = plain(self)
        if data.get("weight") == 1:
            del data["weight"]
        return data

    @property
    def options(self) -> dict[str, Any]:
        """Everything but ``use`` and ``weight``; what the part's own config model checks."""
        return dict(self.__pydantic_extra__)


class ModelUse(Model):
    """A model that judges, revises or writes data: in this process, or behind an OpenAI-compatible server."""

    expects: ClassVar[str] = "champion, or a mapping such as {model: NAME} or {url: ..., model: NAME}"

    model: str = Field(min_length=1, description="bundled name, folder, hub id; with `url`: the server's name for it; or `champion`")
    url: str | Listed[str] | None = Field(default=None, description="of an OpenAI-compatible server, up to `/v1`; or of several")
    key_env: str | None = Field(default=None, description="environment variable that holds the server's key")
    timeout: float = Field(default=60.0, gt=0, description="seconds per request")
    concurrency: int = Field(default=4, ge=1, description="requests at a time")
    backend: PartUse | None = Field(
        default=None, description="part that runs it, such as `llamacpp`; left out: `transformers`, or with `url` the server"
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, data: Any) -> Any:
        return {"model": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one_way(self) -> ModelUse:
        if self.backend is not None and (self.url is not None or self.model == "champion"):
            raise ValueError(f"leave out 'backend': {'a url' if self.url is not None else 'the champion'} says already how it is run")
        return self

    @model_serializer(mode="wrap")
    def _without_default(self, plain: Any) -> dict[str, Any]:
        data: dict[str, Any] = plain(self)
        if data.get("backend") is None:
            data.pop("backend", None)
        return data
