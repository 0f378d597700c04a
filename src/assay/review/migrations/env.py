"""How Alembic reaches the database of labels: through the connection that `LabelStore` hands over."""

from alembic import context

from assay.review.labels import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table="assay_review_version",
    # SQLite cannot alter a table in place.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
