namespace gangway {}
