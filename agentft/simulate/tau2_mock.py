"""tau2-bench, domain mock: a list of tasks, and an inbox on the user's side. Written anew after the published behaviour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentft.simulate.tables import Tables
from agentft.simulate.tau2_general import add_transfer
from agentft.simulate.toolbox import Refused, Tool, tool

TOOLS: dict[str, Tool] = {}  # of the agent
USER_TOOLS: dict[str, Tool] = {}  # of the user


def _found(db: Tables, table: str, key: str, what: str) -> Any:
    record = db.get(table, key)
    if record is None:
        raise Refused(f"{what} {key} not found")
    return record


@tool(
    TOOLS,
    "Create a task for a user.",
    writes=True,
    user_id="Id of the user whose task it is.",
    title="Title of the task.",
    description="What is to be done; may be left out.",
)
def create_task(db: Tables, user_id: str, title: str, description: str | None = None) -> Any:
    _found(db, "users", user_id, "User")
    key = f"task_{sum(1 for _ in db.items('tasks')) + 1}"
    task = {"task_id": key, "title": title, "description": description, "status": "pending"}
    db.put("tasks", key, task)
    db.change("users", user_id)["tasks"].append(key)
    return task


@tool(TOOLS, "All users.")
def get_users(db: Tables) -> Any:
    return [user for _, user in db.items("users")]


@tool(TOOLS, "Change the status of a task.", writes=True, task_id="Id of the task.", status="'pending' or 'completed'.")
def update_task_status(db: Tables, task_id: str, status: str) -> Any:
    _found(db, "tasks", task_id, "Task")
    task = db.change("tasks", task_id)
    task["status"] = status
    return task


add_transfer(TOOLS)


@tool(USER_TOOLS, "All notifications of the inbox.")
def check_notifications(db: Tables) -> Any:
    return [notification for _, notification in db.items("notifications")]


@tool(USER_TOOLS, "Mark a notification as read.", writes=True, notification_id="Id of the notification.")
def dismiss_notification(db: Tables, notification_id: str) -> str:
    _found(db, "notifications", notification_id, "Notification")
    db.change("notifications", notification_id)["status"] = "read"
    return f"Notification {notification_id} dismissed"


# What tasks call before and after the conversation; nobody's tools.


def _add_notification(db: Tables, notification_id: str, message: str, task_id: str | None = None) -> None:
    record = {"notification_id": notification_id, "message": message, "status": "unread", "task_id": task_id}
    db.put("notifications", notification_id, record)


def _task_status(db: Tables, task_id: str, expected_status: str) -> bool:
    return bool(_found(db, "tasks", task_id, "Task")["status"] == expected_status)


def _number_of_tasks(db: Tables, user_id: str, expected_number: int) -> bool:
    return len(_found(db, "users", user_id, "User")["tasks"]) == expected_number


def _notification_status(db: Tables, notification_id: str, expected_status: str) -> bool:
    return bool(_found(db, "notifications", notification_id, "Notification")["status"] == expected_status)


HELPERS: dict[str, Callable[..., Any]] = {
    "add_notification": _add_notification,
    "assert_task_status": _task_status,
    "assert_number_of_tasks": _number_of_tasks,
    "assert_notification_status": _notification_status,
}
