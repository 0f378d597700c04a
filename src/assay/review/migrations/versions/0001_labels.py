"""Reviewers and their labels."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "reviewers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
    )
    op.create_table(
        "labels",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("project", sa.String(64), nullable=False),
        sa.Column("item", sa.BigInteger, nullable=False),
        sa.Column("reviewer", sa.Integer, sa.ForeignKey("reviewers.id"), nullable=False),
        sa.Column("value", sa.SmallInteger, nullable=False),
        sa.Column("given", sa.DateTime(timezone=True), nullable=False),
        sa.Column("undone", sa.DateTime(timezone=True)),
        sa.CheckConstraint("value BETWEEN -1 AND 5", name="value_in_scale"),
    )
    op.create_index("labels_of_item", "labels", ["project", "item"])
    op.create_index("labels_of_reviewer", "labels", ["project", "reviewer"])


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("labels")
    op.drop_table("reviewers")
