-- A default inbox keeps its messages for as long as the service that expires them is told to.

alter table subscriptions drop column retention;
