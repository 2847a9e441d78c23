//! Walks through the tree of an expression.

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr};

/// Visits every node with the names that macros have bound around it.
pub(super) fn walk<'a>(node: &'a IdedExpr, bound: &mut Vec<&'a str>, visit: &mut impl FnMut(&'a IdedExpr, &[&'a str])) {
    visit(node, bound);
    match &node.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Call(call) => {
            call.target.iter().for_each(|target| walk(target, bound, visit));
            call.args.iter().for_each(|argument| walk(argument, bound, visit));
        }
        Expr::List(list) => list.elements.iter().for_each(|element| walk(element, bound, visit)),
        Expr::Select(select) => walk(&select.operand, bound, visit),
        Expr::Map(map) => map.entries.iter().for_each(|entry| walk_entry(&entry.expr, bound, visit)),
        Expr::Struct(object) => object.entries.iter().for_each(|entry| walk_entry(&entry.expr, bound, visit)),
        Expr::Comprehension(loops) => {
            walk(&loops.iter_range, bound, visit);
            walk(&loops.accu_init, bound, visit);
            let outer = bound.len();
            bound.push(&loops.iter_var);
            bound.extend(loops.iter_var2.as_deref());
            bound.push(&loops.accu_var);
            walk(&loops.loop_cond, bound, visit);
            walk(&loops.loop_step, bound, visit);
            walk(&loops.result, bound, visit);
            bound.truncate(outer);
        }
    }
}

fn walk_entry<'a>(entry: &'a EntryExpr, bound: &mut Vec<&'a str>, visit: &mut impl FnMut(&'a IdedExpr, &[&'a str])) {
    match entry {
        EntryExpr::StructField(field) => walk(&field.value, bound, visit),
        EntryExpr::MapEntry(pair) => {
            walk(&pair.key, bound, visit);
            walk(&pair.value, bound, visit);
        }
    }
}

/// The names of `a.b.c`.
pub(super) fn path_of(node: &IdedExpr) -> Option<Vec<&str>> {
    match &node.expr {
        Expr::Ident(name) => Some(vec![name]),
        Expr::Select(select) => {
            let mut path = path_of(&select.operand)?;
            path.push(&select.field);
            Some(path)
        }
        _ => None,
    }
}
